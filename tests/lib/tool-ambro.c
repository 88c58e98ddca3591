// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tool-ambro - drive ambro.ko by hand.
 *
 *	tool-ambro COMMAND [ARG…] [-- COMMAND [ARG…]]…	one after the other, until one fails
 *	tool-ambro					the same from standard input, one a line
 *	tool-ambro fuzz CALLS SEED [DEVICE…]		garbage, from several threads at once
 *
 * All commands of one process go through one control file, which is the owner of what it attached. A
 * command's answer is one line: "ok", with what came back, or "error" and the name of the errno.
 *
 *	version
 *	attach DEVICE		DEVICE is a path, or MAJOR:MINOR
 *	arm ID DEVICE
 *	on|off|disarm|detach ID
 *	query [ID]		the first attachment not below ID
 *	wait			until a line comes in, or the end
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kmod/uapi.h"

#define WORDS_MAX   8
#define THREADS	    4
#define DEVICES_MAX 8
#define EDGE_PAGE   65536 /* a multiple of any page size */

static int control = -1;

/* ---- commands ---- */

static int device_of(const char *text, uint32_t *ret_major, uint32_t *ret_minor)
{
	struct stat st;

	if (sscanf(text, "%u:%u", ret_major, ret_minor) == 2)
		return 0;
	if (stat(text, &st) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode))
		return -ENOTBLK;
	*ret_major = major(st.st_rdev);
	*ret_minor = minor(st.st_rdev);
	return 0;
}

static int call(unsigned long command, void *arg)
{
	return ioctl(control, command, arg) < 0 ? -errno : 0;
}

static int command_version(void)
{
	struct ambro_version v;
	int r = call(AMBRO_IOC_VERSION, &v);

	if (r == 0)
		printf("ok uapi=%u release=%s\n", v.uapi, v.release);
	return r;
}

static int command_attach(const char *device)
{
	struct ambro_attach arg = { 0 };
	int r = device_of(device, &arg.major, &arg.minor);

	if (r == 0)
		r = call(AMBRO_IOC_ATTACH, &arg);
	if (r == 0) {
		printf("ok id=%u front=%u:%u back=%u:%u sectors=%llu\n", arg.id, arg.front_major,
		       arg.front_minor, arg.back_major, arg.back_minor,
		       (unsigned long long)arg.sectors);
	}
	return r;
}

static int command_arm(const char *id, const char *device)
{
	struct ambro_arm arg = { .id = strtoul(id, NULL, 0) };
	int r = device_of(device, &arg.major, &arg.minor);

	if (r == 0)
		r = call(AMBRO_IOC_ARM, &arg);
	if (r == 0)
		puts("ok");
	return r;
}

static int command_id(unsigned long command, const char *id)
{
	struct ambro_id arg = { .id = strtoul(id, NULL, 0) };
	int r = call(command, &arg);

	if (r == 0)
		puts("ok");
	return r;
}

static int command_query(const char *id)
{
	static const char *const states[] = { "idle", "armed", "on", "draining" };
	struct ambro_query q = { .id = strtoul(id, NULL, 0) };
	int r = call(AMBRO_IOC_QUERY, &q);

	if (r < 0)
		return r;
	printf("ok id=%u state=%s owned=%u disk=%u:%u front=%u:%u back=%u:%u armed=%u:%u", q.id,
	       q.state < 4 ? states[q.state] : "?", q.owned, q.major, q.minor, q.front_major,
	       q.front_minor, q.back_major, q.back_minor, q.armed_major, q.armed_minor);
	printf(" sectors=%llu redirected=%llu errors=%llu discards=%llu in_flight=%llu passed_by=%llu",
	       (unsigned long long)q.sectors, (unsigned long long)q.redirected,
	       (unsigned long long)q.errors, (unsigned long long)q.discards,
	       (unsigned long long)q.in_flight, (unsigned long long)q.passed_by);
	printf(" missed=%llu gone=%u\n", (unsigned long long)q.missed, q.gone);
	return 0;
}

static int command_wait(void)
{
	int c;

	do {
		c = getchar();
	} while (c != EOF && c != '\n');
	puts("ok");
	return 0;
}

static int command(int argc, char **argv)
{
	const char *name = argv[0];

	if (argc == 1 && strcmp(name, "version") == 0)
		return command_version();
	if (argc == 1 && strcmp(name, "wait") == 0)
		return command_wait();
	if (argc <= 2 && strcmp(name, "query") == 0)
		return command_query(argc == 2 ? argv[1] : "0");
	if (argc == 3 && strcmp(name, "arm") == 0)
		return command_arm(argv[1], argv[2]);
	if (argc != 2)
		return -EINVAL;
	if (strcmp(name, "attach") == 0)
		return command_attach(argv[1]);
	if (strcmp(name, "on") == 0)
		return command_id(AMBRO_IOC_ON, argv[1]);
	if (strcmp(name, "off") == 0)
		return command_id(AMBRO_IOC_OFF, argv[1]);
	if (strcmp(name, "disarm") == 0)
		return command_id(AMBRO_IOC_DISARM, argv[1]);
	if (strcmp(name, "detach") == 0)
		return command_id(AMBRO_IOC_DETACH, argv[1]);
	return -EINVAL;
}

static int answer(int argc, char **argv)
{
	int r = command(argc, argv);

	if (r < 0)
		printf("error %s\n", strerrorname_np(-r));
	fflush(stdout);
	return r;
}

static int run_arguments(int argc, char **argv)
{
	int i = 0, n;

	while (i < argc) {
		for (n = 0; i + n < argc && strcmp(argv[i + n], "--") != 0; n++)
			;
		if (n > 0 && answer(n, argv + i) < 0)
			return 1;
		i += n + 1;
	}
	return 0;
}

static int run_lines(void)
{
	char line[256], *words[WORDS_MAX], *save, *word;
	int n;

	while (fgets(line, sizeof(line), stdin)) {
		n = 0;
		word = strtok_r(line, " \n", &save);
		while (word && n < WORDS_MAX) {
			words[n++] = word;
			word = strtok_r(NULL, " \n", &save);
		}
		if (n > 0)
			answer(n, words);
	}
	return 0;
}

/* ---- fuzz ---- */

static uint32_t devices[DEVICES_MAX][2];
static unsigned int n_devices;
static unsigned long calls_per_thread;
static atomic_ulong succeeded;
static char *edge; /* behind it nothing is mapped */

struct fuzzer {
	pthread_t thread;
	uint64_t state;
	int file; /* its own, now and then another */
};

static uint32_t draw(struct fuzzer *f, uint32_t below)
{
	f->state = f->state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(f->state >> 33) % below;
}

/* Half of the time what makes sense, so that the calls get past the first check. */
static void fill(struct fuzzer *f, uint32_t *words, size_t n)
{
	static const uint32_t odd[] = { 0, 1, 2, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff };
	size_t i;

	memset(words, 0, n * sizeof(*words));
	words[0] = draw(f, 3);
	if (draw(f, 4) != 0)
		return;
	for (i = 0; i < n; i++)
		words[i] = odd[draw(f, 8)];
}

static void fill_device(struct fuzzer *f, uint32_t *words)
{
	const uint32_t *device;

	if (n_devices == 0 || draw(f, 8) == 0)
		return;
	device = devices[draw(f, n_devices)];
	words[0] = device[0];
	words[1] = device[1];
}

static unsigned long draw_command(struct fuzzer *f)
{
	static const unsigned long known[] = {
		AMBRO_IOC_VERSION, AMBRO_IOC_ATTACH, AMBRO_IOC_ARM,    AMBRO_IOC_ON,
		AMBRO_IOC_OFF,	   AMBRO_IOC_DISARM, AMBRO_IOC_DETACH, AMBRO_IOC_QUERY,
	};
	unsigned long c = known[draw(f, 8)];

	switch (draw(f, 12)) {
	case 0: /* another size */
		return (c & ~(0x3fffUL << 16)) | ((unsigned long)draw(f, 0x4000) << 16);
	case 1: /* another direction */
		return c ^ ((unsigned long)draw(f, 4) << 30);
	case 2: /* another number */
		return (c & ~0xffUL) | draw(f, 256);
	case 3:
		return draw(f, 0x7fffffff);
	default:
		return c;
	}
}

static void fuzz_once(struct fuzzer *f)
{
	union {
		uint32_t words[256];
		char bytes[1024];
	} buffer;
	unsigned long c = draw_command(f);
	void *arg = buffer.bytes;

	fill(f, buffer.words, 256);
	if (c == AMBRO_IOC_ATTACH)
		fill_device(f, buffer.words);
	if (c == AMBRO_IOC_ARM)
		fill_device(f, buffer.words + 2);
	switch (draw(f, 24)) {
	case 0:
		arg = NULL;
		break;
	case 1:
		arg = edge + (1ULL << 47); /* no process's address */
		break;
	case 2:
		arg = edge - 4;
		break;
	default:
		break;
	}
	if (ioctl(draw(f, 3) ? f->file : control, c, arg) == 0)
		atomic_fetch_add(&succeeded, 1);
}

static void *fuzz_thread(void *data)
{
	struct fuzzer *f = data;
	unsigned long i;

	for (i = 0; i < calls_per_thread; i++) {
		if (draw(f, 64) == 0) {
			close(f->file);
			f->file = open(AMBRO_CONTROL_PATH, O_RDWR | O_CLOEXEC);
		}
		fuzz_once(f);
	}
	close(f->file);
	return NULL;
}

static int run_fuzz(int argc, char **argv)
{
	struct fuzzer f[THREADS];
	unsigned int i;

	if (argc < 3 || argc > 3 + DEVICES_MAX)
		return 2;
	edge = mmap(NULL, 2 * EDGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (edge == MAP_FAILED || munmap(edge + EDGE_PAGE, EDGE_PAGE) < 0)
		return 2;
	edge += EDGE_PAGE;
	calls_per_thread = strtoul(argv[1], NULL, 0) / THREADS;
	for (i = 3; i < (unsigned int)argc; i++, n_devices++) {
		if (device_of(argv[i], &devices[n_devices][0], &devices[n_devices][1]) < 0)
			return 2;
	}
	for (i = 0; i < THREADS; i++) {
		f[i].state = strtoull(argv[2], NULL, 0) * 1000003 + i;
		f[i].file = open(AMBRO_CONTROL_PATH, O_RDWR | O_CLOEXEC);
		if (pthread_create(&f[i].thread, NULL, fuzz_thread, &f[i]) != 0)
			return 2;
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(f[i].thread, NULL);
	printf("ok calls=%lu succeeded=%lu\n", calls_per_thread * THREADS, succeeded);
	return 0;
}

int main(int argc, char **argv)
{
	control = open(AMBRO_CONTROL_PATH, O_RDWR | O_CLOEXEC);
	if (control < 0) {
		perror(AMBRO_CONTROL_PATH);
		return 2;
	}
	if (argc == 1)
		return run_lines();
	if (strcmp(argv[1], "fuzz") == 0)
		return run_fuzz(argc - 1, argv + 1);
	return run_arguments(argc - 1, argv + 1);
}
