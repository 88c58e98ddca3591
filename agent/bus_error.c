/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/bus_error.h"

#include <errno.h>

#include "lib/base/text.h"

#define OURS "org.ambrotype.Error."

static const char *bus_error_name(int code)
{
	switch (-code) {
	case EBUSY:
	case EEXIST:
	case ETXTBSY:
		return OURS "Busy";
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return OURS "NotFound";
	case EINVAL:
	case EISDIR:
	case ENOTDIR:
		return OURS "Invalid";
	case ENOTSUP:
	case ENOTBLK:
		return OURS "NotSupported";
	case EAGAIN:
	case ESHUTDOWN:
		return SD_BUS_ERROR_LIMITS_EXCEEDED;
	case EACCES:
	case EPERM:
		return SD_BUS_ERROR_ACCESS_DENIED;
	case ENOMEM:
		return SD_BUS_ERROR_NO_MEMORY;
	default:
		return OURS "Failed";
	}
}

int bus_error_set(sd_bus_error *error, const struct err *e)
{
	char text[ERR_TEXT_MAX];

	/* D-Bus refuses strings that are not UTF-8, and names of files need not be */
	text_clean(e->text, false, text, sizeof(text));
	return sd_bus_error_set(error, bus_error_name(e->code), text);
}
