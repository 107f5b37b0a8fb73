#pragma once
/*
 * What a worker process gives up before it runs anybody's statement. System calls that Swift cannot name: variadic ones,
 * ones without a wrapper in the C library, and the filter program of seccomp.
 *
 * Every function returns 0 or a positive error number. They hold for the calling thread and those that it starts later,
 * so they are called while there is only one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Closes every descriptor from `first` on. */
static inline int ft_close_from(unsigned first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return 0;
#endif
    long most = sysconf(_SC_OPEN_MAX);
    if (most < 0 || most > 1048576) most = 1048576;
    for (long descriptor = first; descriptor < most; descriptor++) close((int)descriptor);
    return 0;
}

/* What tools that list processes call this one; to be called on its first thread. */
static inline void ft_name_process(const char *name) { (void)prctl(PR_SET_NAME, name, 0, 0, 0); }

/* Ends this process with its parent; an error when that is gone already. */
static inline int ft_die_with_parent(pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return errno;
    return getppid() == parent ? 0 : ESRCH;
}

/* No core files, not readable by others of the same user, at most `bytes` of private writable memory (0: no limit). */
static inline int ft_limit_resources(uint64_t bytes) {
    /* When memory is short, the kernel takes it from this process first, and not from its node. */
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        (void)!write(score, "500", 3);
        close(score);
    }
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) return errno;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return errno;
    if (bytes == 0) return 0;
    struct rlimit data = {bytes, bytes};
    return setrlimit(RLIMIT_DATA, &data) == 0 ? 0 : errno;
}

/* Gives up every capability, and the way to get one by running a program. */
static inline int ft_drop_privileges(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    /* Fails from the first capability that the kernel does not know, and without the capability to drop any. */
    for (int capability = 0; capability < 64; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    return syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

/* Landlock (linux/landlock.h; older headers lack most of it). */
/* Write, read, truncate. */
#define FT_LANDLOCK_FILE ((1ULL << 1) | (1ULL << 2) | (1ULL << 14))
#define FT_LANDLOCK_READ_FILE (1ULL << 2)
#define FT_LANDLOCK_READ ((1ULL << 2) | (1ULL << 3))
/* Write, remove directories and files, make directories and regular files, truncate. */
#define FT_LANDLOCK_CHANGE ((1ULL << 1) | (1ULL << 4) | (1ULL << 5) | (1ULL << 7) | (1ULL << 8) | (1ULL << 14))

/* Not in the C library's headers without extensions. */
#define FT_O_PATH 010000000

struct ft_landlock_ruleset { uint64_t fs; uint64_t net; uint64_t scoped; };
struct ft_landlock_path { uint64_t access; int32_t parent; } __attribute__((packed));

#if defined(__x86_64__) || defined(__aarch64__)
#define FT_SYS_landlock_create_ruleset 444
#define FT_SYS_landlock_add_rule 445
#define FT_SYS_landlock_restrict_self 446
#endif

/* The version of Landlock that the kernel offers; 0: none. */
static inline int ft_landlock_version(void) {
    long version = syscall(FT_SYS_landlock_create_ruleset, NULL, 0, 1);
    return version > 0 ? (int)version : 0;
}

static inline int ft_landlock_allow(int ruleset, const char *path, uint64_t access) {
    int parent = open(path, FT_O_PATH | O_CLOEXEC);
    if (parent < 0) return errno;
    struct stat facts;
    /* For a file, what only directories have may not be asked for. */
    if (fstat(parent, &facts) == 0 && !S_ISDIR(facts.st_mode)) access &= FT_LANDLOCK_FILE;
    struct ft_landlock_path rule = {access, parent};
    int failure = syscall(FT_SYS_landlock_add_rule, ruleset, 1, &rule, 0) == 0 ? 0 : errno;
    close(parent);
    return failure;
}

/*
 * Leaves only what lies below `directory`, and to be read what tells the number of processors, the memory of the machine
 * and the process's own threads: the engine does not survive that its control group cannot be read, nor libdispatch that
 * its threads cannot. It reads /proc/THREAD/stat, and which numbers threads will have nobody knows: files below /proc may be
 * read, but no folder of it listed, and what belongs to other processes (their memory, environment, files) stays shut by the
 * rules for tracing, which Landlock tightens. ENOSYS: the kernel has no Landlock.
 */
static inline int ft_restrict_files(const char *directory) {
    static const char *const facts[] = {
        "/proc/self/cgroup", "/proc/self/task", "/proc/stat", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/fs/cgroup",
    };
    int version = ft_landlock_version();
    if (version == 0) return ENOSYS;
    struct ft_landlock_ruleset rules = {(1ULL << 13) - 1, 0, 0};
    if (version >= 2) rules.fs |= 1ULL << 13;
    if (version >= 3) rules.fs |= 1ULL << 14;
    if (version >= 4) rules.net = 3;
    if (version >= 5) rules.fs |= 1ULL << 15;
    if (version >= 6) rules.scoped = 3;
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int ruleset = (int)syscall(FT_SYS_landlock_create_ruleset, &rules, size, 0);
    if (ruleset < 0) return errno;
    int failure = ft_landlock_allow(ruleset, directory, rules.fs & (FT_LANDLOCK_READ | FT_LANDLOCK_CHANGE));
    for (size_t place = 0; place < sizeof facts / sizeof facts[0]; place++) {
        /* What is not there cannot be read. */
        (void)ft_landlock_allow(ruleset, facts[place], FT_LANDLOCK_READ);
    }
    if (failure == 0) failure = ft_landlock_allow(ruleset, "/proc", FT_LANDLOCK_READ_FILE);
    if (failure == 0 && syscall(FT_SYS_landlock_restrict_self, ruleset, 0) != 0) failure = errno;
    close(ruleset);
    return failure;
}

#if defined(__x86_64__)
#define FT_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FT_AUDIT_ARCH AUDIT_ARCH_AARCH64
#endif

/*
 * Refuses, with EPERM, the system calls that lead out of the process: sockets, other programs and processes, mounts,
 * the kernel's own doors, changes of owners and modes (which Landlock does not cover). New threads are allowed, new
 * processes are not.
 */
static inline int ft_restrict_calls(void) {
    static const int refused[] = {
        SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_ptrace,
        SYS_process_vm_readv, SYS_process_vm_writev, SYS_execve, SYS_execveat, SYS_unshare, SYS_setns, SYS_mount,
        SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_bpf, SYS_perf_event_open, SYS_keyctl, SYS_add_key,
        SYS_request_key, SYS_userfaultfd, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
        SYS_reboot, SYS_swapon, SYS_swapoff, SYS_acct, SYS_quotactl, SYS_settimeofday, SYS_clock_settime,
        SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname, SYS_personality, SYS_setrlimit,
        SYS_kill, SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_shmget, SYS_shmat, SYS_semget,
        SYS_msgget, SYS_mq_open, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_mknodat, SYS_fchmod,
        SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr,
        SYS_lremovexattr, SYS_fremovexattr, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid,
        SYS_setresgid, SYS_setgroups, SYS_setfsuid, SYS_setfsgid, SYS_capset, SYS_inotify_init1, SYS_fanotify_init,
        SYS_linkat, SYS_symlinkat, SYS_syslog,
#ifdef SYS_fork
        SYS_fork, SYS_vfork, SYS_mknod, SYS_chmod, SYS_chown, SYS_lchown, SYS_link, SYS_symlink, SYS_iopl, SYS_ioperm,
        SYS_modify_ldt, SYS_inotify_init,
#endif
#ifdef SYS_kexec_file_load
        SYS_kexec_file_load,
#endif
#ifdef SYS_io_uring_setup
        SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
#endif
#ifdef SYS_pidfd_open
        SYS_pidfd_open, SYS_pidfd_send_signal,
#endif
#ifdef SYS_pidfd_getfd
        SYS_pidfd_getfd,
#endif
#ifdef SYS_open_tree
        SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
#endif
#ifdef SYS_mount_setattr
        SYS_mount_setattr,
#endif
    };
    enum { count = sizeof refused / sizeof refused[0], most = 2 * count + 40 };
    struct sock_filter program[most];
    size_t length = 0;
#define FT_ADD(instruction) program[length++] = (struct sock_filter)instruction
#define FT_LOAD(field) FT_ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field)))
#define FT_LOAD_ARGUMENT(place, half) \
    FT_ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (place) + 4 * (half))))
#define FT_RETURN(action) FT_ADD(BPF_STMT(BPF_RET | BPF_K, action))
    FT_LOAD(arch);
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FT_AUDIT_ARCH, 1, 0));
    FT_RETURN(SECCOMP_RET_KILL_PROCESS);
    FT_LOAD(nr);
#ifdef __x86_64__
    /* The x32 numbers of the same calls. */
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1));
    FT_RETURN(SECCOMP_RET_KILL_PROCESS);
#endif
    for (size_t place = 0; place < count; place++) {
        FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refused[place], 0, 1));
        FT_RETURN(SECCOMP_RET_ERRNO | EPERM);
    }
#ifdef SYS_clone3
    /* Its flags lie in memory, where a filter cannot look; the C library then asks for clone. */
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
    FT_RETURN(SECCOMP_RET_ERRNO | ENOSYS);
#endif
    /* clone: threads only (CLONE_THREAD). */
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4));
    FT_LOAD_ARGUMENT(0, 0);
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x00010000, 0, 1));
    FT_RETURN(SECCOMP_RET_ALLOW);
    FT_RETURN(SECCOMP_RET_ERRNO | EPERM);
    /* tgkill: this process only. */
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 4));
    FT_LOAD_ARGUMENT(0, 0);
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 0, 1));
    FT_RETURN(SECCOMP_RET_ALLOW);
    FT_RETURN(SECCOMP_RET_ERRNO | EPERM);
    /* setpriority: the calling thread only. */
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setpriority, 0, 4));
    FT_LOAD_ARGUMENT(1, 0);
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1));
    FT_RETURN(SECCOMP_RET_ALLOW);
    FT_RETURN(SECCOMP_RET_ERRNO | EPERM);
    /* prlimit64: read only, that is, without new limits. */
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 6));
    FT_LOAD_ARGUMENT(2, 0);
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3));
    FT_LOAD_ARGUMENT(2, 1);
    FT_ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1));
    FT_RETURN(SECCOMP_RET_ALLOW);
    FT_RETURN(SECCOMP_RET_ERRNO | EPERM);
    FT_RETURN(SECCOMP_RET_ALLOW);
#undef FT_ADD
#undef FT_LOAD
#undef FT_LOAD_ARGUMENT
#undef FT_RETURN
    struct sock_fprog filter = {(unsigned short)length, program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 ? 0 : errno;
}

enum { FT_DOOR_SOCKET = 1, FT_DOOR_PROCESS = 2, FT_DOOR_PROGRAM = 4, FT_DOOR_SIGNAL = 8, FT_DOOR_FILE = 16 };

/* Tries what should be refused, without effect if it is not. */
static inline int ft_open_doors(void) {
    int doors = 0;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (descriptor >= 0) {
        doors |= FT_DOOR_SOCKET;
        close(descriptor);
    }
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) {
        doors |= FT_DOOR_PROCESS;
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    }
    char *const none[] = {NULL};
    (void)execve("/nothing", none, none);
    if (errno != EPERM && errno != EACCES) doors |= FT_DOOR_PROGRAM;
    if (kill(getppid(), 0) == 0) doors |= FT_DOOR_SIGNAL;
    char parent[64];
    snprintf(parent, sizeof parent, "/proc/%d/environ", (int)getppid());
    const char *const files[] = {"/etc/passwd", parent};
    for (size_t place = 0; place < sizeof files / sizeof files[0]; place++) {
        descriptor = open(files[place], O_RDONLY | O_CLOEXEC);
        if (descriptor >= 0) {
            doors |= FT_DOOR_FILE;
            close(descriptor);
        }
    }
    return doors;
}

/* Reads what libdispatch will read of this thread; 0, or why it cannot: the process would not live long. */
static inline int ft_read_own_thread(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/stat", syscall(SYS_gettid));
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return errno;
    char byte;
    int failure = read(descriptor, &byte, 1) == 1 ? 0 : EIO;
    close(descriptor);
    return failure;
}

/* Sends blocks as one, without waiting and without SIGPIPE; what was taken, or a negative error number. */
static inline long ft_send_blocks(int socket, struct iovec *blocks, size_t count) {
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = blocks;
    message.msg_iovlen = count;
    for (;;) {
        ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return (long)sent;
        if (errno != EINTR) return -(long)errno;
    }
}
