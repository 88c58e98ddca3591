/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface of ambro.ko: interpose device-mapper below a live block device.
 *
 * One *attachment* stands for one whole disk (never a partition: a partition is captured by a
 * device-mapper table that has a snapshot-origin for its range and linear targets around it, so
 * that a bio across its edge is split by device-mapper itself). It has two block devices of its
 * own:
 *
 *	front	where bios of the disk, and of all its partitions, are sent while it is on; hidden
 *	back	/dev/ambro-back<id>: passes everything on to the disk, below the hook;
 *		device-mapper stands on it
 *
 * and one of these states (the drawn diagram is in docs/KMOD.md):
 *
 *	IDLE	  attached, the hook is there and lets everything pass
 *	ARMED	  holds open the device-mapper device that bios will go through; all still passes
 *	ON	  bios go front -> that device -> back -> disk
 *	DRAINING  off was asked for (or the owner died): new bios pass, those that went through
 *		  front are waited for
 *
 *	ATTACH -> IDLE -ARM-> ARMED -ON-> ON -OFF-> DRAINING -> ARMED -DISARM-> IDLE -DETACH->
 *
 * ON and the start of OFF neither allocate nor wait, so ON may be called while file systems are
 * frozen.
 *
 * The file that attached is the *owner*. When it is closed (the agent was killed) the attachment
 * is switched off by itself, without waiting; the rest stays for whoever takes it down: any file
 * may do every call on an attachment that has no owner, and QUERY on all. ARM, ON, OFF, DISARM,
 * DETACH of another's attachment: EPERM.
 *
 * Every call needs CAP_SYS_ADMIN. In every structure `flags` and `reserved` must be zero (EINVAL);
 * what is returned in reserved fields is zero. A structure never changes its size; a new one gets
 * a new number.
 *
 * Errors common to all: EPERM (capability, owner), EFAULT, EINVAL (flags, reserved), ENOENT (no
 * such id), ENOTTY (unknown call), EINTR (a signal while waiting; the call may be repeated).
 */
#ifndef AMBRO_UAPI_H
#define AMBRO_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define AMBRO_CONTROL_PATH "/dev/ambro-control"
#define AMBRO_FRONT_PREFIX "ambro-front"
#define AMBRO_BACK_PREFIX  "ambro-back"
#define AMBRO_UAPI_VERSION 1
#define AMBRO_ATTACH_MAX   64 /* ids are 0 … 63 */

enum ambro_state {
	AMBRO_STATE_IDLE = 0,
	AMBRO_STATE_ARMED = 1,
	AMBRO_STATE_ON = 2,
	AMBRO_STATE_DRAINING = 3,
};

/* Which source this module was built from: AMBRO_UAPI_VERSION, and its release as text. */
struct ambro_version {
	__u32 uapi;
	__u32 reserved;
	char release[24];
};

/*
 * Attach to the disk @major:@minor and make front and back. Blocks (reads one sector of the disk
 * to prove that the hook sees its bios).
 *
 * EINVAL: a partition. ENXIO, ENODEV: no such device. EBUSY: already attached. EOPNOTSUPP: of a
 * kind that cannot be done right (zoned, DAX, integrity, inline encryption, md, one of ours); the
 * kernel log says which. ENOSPC: AMBRO_ATTACH_MAX. EROFS: read-only. EIO: the self-test failed.
 */
struct ambro_attach {
	__u32 major, minor; /* in */
	__u32 flags;	    /* in: 0 */
	__u32 id;	    /* out */
	/* out */
	__u32 front_major, front_minor, back_major, back_minor;
	__u64 sectors; /* out: of 512 bytes; of the disk, front and back */
	__u32 reserved[6];
};

/*
 * ARM: open @major:@minor, the device-mapper device that bios shall go through: it must not be a
 * device of ours. It may still be without a table. EBUSY: not IDLE.
 */
struct ambro_arm {
	__u32 id;
	__u32 flags;
	__u32 major, minor;
	__u32 reserved[4];
};

/*
 * ON: EBUSY when not ARMED; EINVAL when the armed device's capacity is not the disk's. Does not
 * wait.
 *
 * OFF: returns when the last bio that went through front is done; 0 also when it was off already.
 * The wait is killable.
 *
 * DISARM: lets go of the armed device. EBUSY when ON or DRAINING; 0 also when IDLE.
 *
 * DETACH: removes front and back. EBUSY when not IDLE, or when something has back open.
 */
struct ambro_id {
	__u32 id;
	__u32 flags;
	__u32 reserved[2];
};

/*
 * Some writes cannot be sent through device-mapper as they are: atomic ones (RWF_ATOMIC), those
 * with an inline encryption context, and those across the end that the disk had at ATTACH. They
 * are done right, on the disk, but device-mapper does not hear of them: a snapshot during which
 * @missed grew is not the disk at one instant, and must be thrown away.
 *
 * QUERY: the attachment with the lowest id that is not below @id; ENOENT: none. Counters are since
 * ATTACH. Does not wait.
 */
struct ambro_query {
	__u32 id;    /* in, out */
	__u32 flags; /* in: 0 */
	__u32 state; /* enum ambro_state */
	__u32 owned; /* 1: its owner lives; 2: its owner is the asking file */
	__u32 major, minor;
	__u32 front_major, front_minor, back_major, back_minor;
	__u32 armed_major, armed_minor; /* 0:0 when not armed */
	__u64 sectors;
	__u64 redirected; /* bios sent to front */
	__u64 errors;	  /* of these, ended with an error of the armed device */
	__u64 discards;	  /* answered without doing them */
	__u64 in_flight;  /* in front now */
	__u64 passed_by;  /* left alone while ON, harmless: beyond the end, an unknown operation */
	__u64 missed;	  /* writes that went to the disk without front while ON: see below */
	__u32 gone;	  /* 1: the disk was removed */
	__u32 reserved[5];
};

#define AMBRO_IOC_MAGIC	  0xA7
#define AMBRO_IOC_VERSION _IOR(AMBRO_IOC_MAGIC, 0x00, struct ambro_version)
#define AMBRO_IOC_ATTACH  _IOWR(AMBRO_IOC_MAGIC, 0x01, struct ambro_attach)
#define AMBRO_IOC_ARM	  _IOW(AMBRO_IOC_MAGIC, 0x02, struct ambro_arm)
#define AMBRO_IOC_ON	  _IOW(AMBRO_IOC_MAGIC, 0x03, struct ambro_id)
#define AMBRO_IOC_OFF	  _IOW(AMBRO_IOC_MAGIC, 0x04, struct ambro_id)
#define AMBRO_IOC_DISARM  _IOW(AMBRO_IOC_MAGIC, 0x05, struct ambro_id)
#define AMBRO_IOC_DETACH  _IOW(AMBRO_IOC_MAGIC, 0x06, struct ambro_id)
#define AMBRO_IOC_QUERY	  _IOWR(AMBRO_IOC_MAGIC, 0x07, struct ambro_query)

#endif
