// SPDX-License-Identifier: GPL-2.0-only
/*
 * the module and its control device. Every structure is checked here, before anything else
 * sees it.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "attach.h"
#include "disk.h"

static bool is_zero(const void *p, size_t n)
{
	return !memchr_inv(p, 0, n);
}

static long control_version(void __user *user)
{
	struct ambro_version v = { .uapi = AMBRO_UAPI_VERSION };

	BUILD_BUG_ON(sizeof(AMBRO_RELEASE) > sizeof(v.release));
	strscpy(v.release, AMBRO_RELEASE, sizeof(v.release));
	return copy_to_user(user, &v, sizeof(v)) ? -EFAULT : 0;
}

static long control_attach(struct file *file, void __user *user)
{
	struct ambro_attach arg;
	long r;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || !is_zero(arg.reserved, sizeof(arg.reserved)))
		return -EINVAL;
	r = attachment_attach(file, &arg);
	if (r)
		return r;
	if (copy_to_user(user, &arg, sizeof(arg))) {
		attachment_detach(file, arg.id);
		return -EFAULT;
	}
	return 0;
}

static long control_arm(struct file *file, void __user *user)
{
	struct ambro_arm arg;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || !is_zero(arg.reserved, sizeof(arg.reserved)))
		return -EINVAL;
	return attachment_arm(file, &arg);
}

static long control_id(struct file *file, void __user *user, int (*call)(struct file *, u32))
{
	struct ambro_id arg;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || !is_zero(arg.reserved, sizeof(arg.reserved)))
		return -EINVAL;
	return call(file, arg.id);
}

static long control_query(struct file *file, void __user *user)
{
	struct ambro_query arg;
	long r;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.flags || !is_zero(arg.reserved, sizeof(arg.reserved)))
		return -EINVAL;
	r = attachment_query(file, &arg);
	if (r)
		return r;
	return copy_to_user(user, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static long control_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (command) {
	case AMBRO_IOC_VERSION:
		return control_version(user);
	case AMBRO_IOC_ATTACH:
		return control_attach(file, user);
	case AMBRO_IOC_ARM:
		return control_arm(file, user);
	case AMBRO_IOC_ON:
		return control_id(file, user, attachment_on);
	case AMBRO_IOC_OFF:
		return control_id(file, user, attachment_off);
	case AMBRO_IOC_DISARM:
		return control_id(file, user, attachment_disarm);
	case AMBRO_IOC_DETACH:
		return control_id(file, user, attachment_detach);
	case AMBRO_IOC_QUERY:
		return control_query(file, user);
	default:
		return -ENOTTY;
	}
}

static int control_release(struct inode *inode, struct file *file)
{
	attachments_disown(file);
	return 0;
}

static const struct file_operations control_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = control_release,
	.llseek = noop_llseek,
};

static struct miscdevice control = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ambro-control",
	.mode = 0600,
	.fops = &control_operations,
};

static int __init ambro_init(void)
{
	int r = disks_register();

	if (r)
		return r;
	r = misc_register(&control);
	if (r)
		disks_unregister();
	return r;
}

static void __exit ambro_exit(void)
{
	misc_deregister(&control);
	disks_unregister();
}

module_init(ambro_init);
module_exit(ambro_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The ambrotype authors");
MODULE_DESCRIPTION("Interposes device-mapper below a live block device");
MODULE_VERSION(AMBRO_RELEASE);
