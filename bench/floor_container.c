/*
 * The floor under a container's start and end: the system calls that a container of berth
 * makes, and nothing else. No checks of a plan, no status channel, no accounting: what it
 * cannot do it reports and gives up.
 *
 *   floor_container GROUP ROOTFS COUNT
 *
 * GROUP is a directory of a cgroup version 2 tree in which groups can be made; ROOTFS
 * holds a static program /tiny. Starts and ends COUNT containers one after the other and
 * prints the nanoseconds each took on average.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* glibc and the kernel both declare mount(2)'s constants; only these are needed. */
#define MNT_DETACH 2
#define PRIVATE (1 << 18)

static void must(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "floor_container: %s: %s\n", what, strerror(errno));
		_exit(1);
	}
}

static int filesystem(const char *type)
{
	int fd = syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	must(fd, type);
	return fd;
}

static void option(int fs, const char *key, const char *value)
{
	must(syscall(SYS_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0), key);
}

static int make(int fs, unsigned attributes)
{
	must(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0), "fsconfig");
	int fd = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
	must(fd, "fsmount");
	close(fs);
	return fd;
}

static void attach(int tree, int directory, const char *path)
{
	must(syscall(SYS_move_mount, tree, "", directory, path, MOVE_MOUNT_F_EMPTY_PATH), path);
}

static void put(int tree, const char *path)
{
	mkdir(path, 0755);
	attach(tree, AT_FDCWD, path);
	close(tree);
}

static void inner(int dev, int tree, const char *name)
{
	must(mkdirat(dev, name, 0755), name);
	attach(tree, dev, name);
	close(tree);
}

#define INERT (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static void fill_dev(void)
{
	static const struct { const char *name; int major, minor; } nodes[] = {
		{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 },
		{ "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
	};
	static const char *links[][2] = {
		{ "ptmx", "pts/ptmx" }, { "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" },
		{ "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" }, { "core", "/proc/kcore" },
	};
	int fs = filesystem("tmpfs");
	option(fs, "mode", "0755");
	option(fs, "size", "64k");
	int dev = make(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	mkdir("/dev", 0755);
	attach(dev, AT_FDCWD, "/dev");
	for (int i = 0; i < 6; i++)
		must(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), "mknod");
	for (int i = 0; i < 6; i++)
		must(symlinkat(links[i][1], dev, links[i][0]), "symlink");
	fs = filesystem("devpts");
	option(fs, "newinstance", 0);
	option(fs, "ptmxmode", "0666");
	option(fs, "mode", "0620");
	option(fs, "gid", "5");
	inner(dev, make(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), "pts");
	fs = filesystem("tmpfs");
	option(fs, "mode", "1777");
	inner(dev, make(fs, INERT), "shm");
	inner(dev, make(filesystem("mqueue"), INERT), "mqueue");
	close(dev);
}

static void root(const char *rootfs)
{
	char path[64];
	struct mount_attr private = { .propagation = PRIVATE };
	must(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private), "private");
	int lower = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(lower, rootfs);
	int fs = filesystem("tmpfs");
	option(fs, "mode", "0700");
	int memory = make(fs, 0);
	must(mkdirat(memory, "upper", 0755), "upper");
	must(mkdirat(memory, "work", 0755), "work");
	int upper = openat(memory, "upper", O_PATH | O_CLOEXEC), work = openat(memory, "work", O_PATH | O_CLOEXEC);
	fs = filesystem("overlay");
	snprintf(path, sizeof path, "/proc/self/fd/%d", lower);
	option(fs, "lowerdir", path);
	snprintf(path, sizeof path, "/proc/self/fd/%d", upper);
	option(fs, "upperdir", path);
	snprintf(path, sizeof path, "/proc/self/fd/%d", work);
	option(fs, "workdir", path);
	int tree = make(fs, 0);
	attach(tree, AT_FDCWD, "/");
	must(fchdir(tree), "fchdir");
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(syscall(SYS_umount2, ".", MNT_DETACH), "umount");
	must(chdir("/"), "chdir");
	close(lower), close(upper), close(work), close(memory), close(tree);
}

static void network(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(ioctl(fd, SIOCSIFFLAGS, &request), "lo");
	close(fd);
	struct sockaddr_un log = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(bind(fd, (struct sockaddr *)&log, sizeof log), "bind");
	must(chmod("/dev/log", 0666), "chmod");
	close(fd);
}

static void inside(const char *rootfs)
{
	must(unshare(CLONE_NEWCGROUP), "unshare");
	root(rootfs);
	put(make(filesystem("proc"), INERT), "/proc");
	put(make(filesystem("sysfs"), INERT | MOUNT_ATTR_RDONLY), "/sys");
	put(make(filesystem("cgroup2"), INERT | MOUNT_ATTR_RDONLY), "/sys/fs/cgroup");
	fill_dev();
	must(sethostname("web", 3), "sethostname");
	network();
	pid_t pid = fork();
	must(pid, "fork");
	if (pid == 0) {
		char *argv[] = { "/tiny", 0 }, *envp[] = { "PATH=/bin", "HOME=/root", "USER=root", 0 };
		must(setsid(), "setsid");
		execve(argv[0], argv, envp);
		must(-1, argv[0]);
	}
	must(waitpid(pid, 0, 0), "waitpid");
	_exit(0);
}

static void container(const char *group, const char *rootfs)
{
	char path[512];
	snprintf(path, sizeof path, "%s/floor-%d", group, getpid());
	must(mkdir(path, 0755), path);
	int cgroup = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), pidfd = -1, status = 0;
	struct clone_args arguments = {
		.flags = CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
			CLONE_NEWUTS | CLONE_NEWNET,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup,
	};
	long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
	must(pid, "clone3");
	if (pid == 0)
		inside(rootfs);
	must(waitpid(pid, &status, 0), "waitpid");
	if (status != 0)
		exit(1);
	close(pidfd);
	close(cgroup);
	must(rmdir(path), "rmdir");
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: floor_container GROUP ROOTFS COUNT\n");
		return 2;
	}
	int count = atoi(argv[3]);
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < count; i++)
		container(argv[1], argv[2]);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%lld\n", ((to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec) / count);
}
