/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/manifest_fields.h"

#define STRING(field, name, type)                                \
	{                                                        \
		name, offsetof(type, field), FIELD_STRING, false \
	}
#define U64(field, name, type, required)                         \
	{                                                        \
		name, offsetof(type, field), FIELD_U64, required \
	}
#define U32(field, name, type, required)                         \
	{                                                        \
		name, offsetof(type, field), FIELD_U32, required \
	}

#define M struct manifest
#define R struct manifest_region

const struct field manifest_time_fields[] = {
	U64(created_ns, "created_ns", M, true),
	U64(instant_ns, "instant_ns", M, false),
	{ 0 },
};

const struct field manifest_host_fields[] = {
	STRING(hostname, "hostname", M),
	STRING(machine_id, "machine_id", M),
	STRING(kernel, "kernel", M),
	STRING(os, "os", M),
	{ 0 },
};

const struct field manifest_how_fields[] = {
	STRING(strategy, "strategy", M),
	STRING(guarantee, "guarantee", M),
	U64(chunk_size, "chunk_size", M, true),
	{ 0 },
};

const struct field manifest_increment_fields[] = {
	STRING(increment, "increment", M),
	STRING(increment_reason, "increment_reason", M),
	STRING(track, "track", M),
	{ 0 },
};

const struct field manifest_sample_fields[] = {
	U64(sample_checked, "checked", M, false),
	U64(sample_different, "different", M, false),
	{ 0 },
};

const struct field manifest_disk_fields[] = {
	STRING(path, "path", M),
	STRING(model, "model", M),
	STRING(serial, "serial", M),
	STRING(wwid, "wwid", M),
	U64(disk_size, "size", M, true),
	U32(logical_sector, "logical_sector", M, true),
	U32(physical_sector, "physical_sector", M, false),
	STRING(table, "table", M),
	STRING(table_id, "table_id", M),
	STRING(table_script, "table_script", M),
	{ 0 },
};

const struct field manifest_capture_fields[] = {
	U64(passes, "passes", M, false),
	U64(freeze_us, "freeze_us", M, false),
	U64(duration_ms, "duration_ms", M, false),
	U64(read_bytes, "read_bytes", M, false),
	U64(stored_bytes, "stored_bytes", M, false),
	U64(data_chunks, "data_chunks", M, false),
	U64(resent_chunks, "resent_chunks", M, false),
	U64(same_chunks, "same_chunks", M, false),
	{ 0 },
};

const struct field region_place_fields[] = {
	U64(start, "start", R, true),
	U64(length, "length", R, true),
	STRING(type, "type", R),
	STRING(name, "name", R),
	STRING(uuid, "uuid", R),
	STRING(flags, "flags", R),
	{ 0 },
};

const struct field region_fs_fields[] = {
	STRING(fs_type, "type", R),
	STRING(fs_uuid, "uuid", R),
	STRING(fs_label, "label", R),
	{ 0 },
};

const struct field region_map_fields[] = {
	STRING(map, "map", R),
	U64(used, "used", R, false),
	U32(depth, "depth", R, true),
	{ 0 },
};
