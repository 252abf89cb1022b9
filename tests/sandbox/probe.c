/* Asks the kernel what becomes of system calls, from inside a unit.
 *
 *   probe WAY            what becomes of calls 0 to 500: a line "NUMBER VERDICT" each
 *   probe WAY N [A]...   makes this call, and prints what it returns
 *
 * WAY is "syscall", "x32" or "int80". No call of the first form is carried out: a filter on
 * top of the unit's own hands what that one allows to a tracer, which answers instead of the
 * kernel. What is refused never gets there, since the stricter answer of two filters counts.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LAST = 500, ALLOWED = -4001, KILLED = -4002, DONE = -4003, OVER = LAST + 1 };

static volatile struct {
    long at;
    int signalled;
    long result[OVER];
} *shared;

static long call(const char *way, long number, long *a)
{
    long result;
    if (strcmp(way, "int80") == 0) {
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                         : "memory", "r8", "r9", "r10", "r11");
        return (int)result;
    }
    if (strcmp(way, "x32") == 0)
        number |= 0x40000000;
    register long d __asm__("r10") = a[3];
    register long e __asm__("r8") = a[4];
    register long f __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(d), "r"(e), "r"(f)
                     : "memory", "rcx", "r11");
    return result;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void ask(const char *way)
{
    struct sock_filter hand_over = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog program = {1, &hand_over};
    long nothing[6] = {0};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
        die("ptrace");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        die("prctl");
    raise(SIGSTOP);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        die("seccomp");
    while (shared->at < OVER) {
        long result = call(way, shared->at, nothing);
        shared->result[shared->at] = shared->signalled ? DONE : result;
        shared->signalled = 0;
        shared->at++;
    }
    for (;;)
        pause();
}

/* Answers what a child is allowed; true when it is through. */
static int answer(pid_t child)
{
    int status;
    struct user_regs_struct registers;
    for (;;) {
        if (waitpid(child, &status, 0) != child)
            die("waitpid");
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && shared->at < OVER) {
            shared->result[shared->at++] = KILLED;
            return shared->at == OVER;
        }
        if (!WIFSTOPPED(status)) {
            fprintf(stderr, "the child ended at %ld with %#x\n", shared->at, status);
            exit(1);
        }
        if (WSTOPSIG(status) == SIGSTOP)
            ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL);
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
            if (shared->at == OVER) {
                kill(child, SIGKILL);
                waitpid(child, &status, 0);
                return 1;
            }
            ptrace(PTRACE_GETREGS, child, 0, &registers);
            registers.orig_rax = -1;
            registers.rax = ALLOWED;
            ptrace(PTRACE_SETREGS, child, 0, &registers);
        }
        /* That of uretprobe(2), which the kernel carries out whatever a filter says. */
        if (WSTOPSIG(status) == SIGILL)
            shared->signalled = 1;
        ptrace(PTRACE_CONT, child, 0, 0);
    }
}

static void table(const char *way)
{
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    for (;;) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0)
            ask(way);
        if (answer(child))
            break;
    }
    for (int number = 0; number < OVER; number++) {
        long result = shared->result[number];
        if (result == ALLOWED)
            printf("%d allow\n", number);
        else if (result == KILLED)
            printf("%d killed\n", number);
        else if (result == -EPERM)
            printf("%d EPERM\n", number);
        else if (result == -ENOSYS)
            printf("%d ENOSYS\n", number);
        else
            printf("%d done\n", number);
    }
}

int main(int count, char **words)
{
    long arguments[6] = {0};
    if (count == 2) {
        table(words[1]);
        return 0;
    }
    for (int word = 3; word < count && word < 9; word++)
        arguments[word - 3] = (long)strtoull(words[word], 0, 0);
    printf("%ld\n", call(words[1], atol(words[2]), arguments));
    return 0;
}
