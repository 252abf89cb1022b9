/*
 * The work of every service in the benchmark: it says when it was started.
 *
 *   beacon REPORT NAME        reports, then sleeps until a signal ends it
 *   beacon REPORT NAME end    reports and ends
 *   beacon                    REPORT from $BEACON_REPORT, NAME is that of the directory;
 *                             without that variable: reports to standard output and ends
 *
 * REPORT is a FIFO. One line "NAME PID NANOSECONDS\n" (CLOCK_MONOTONIC, read before
 * anything else) goes there in a single write, which a pipe keeps whole. So a start is
 * reported by the service itself and never found by looking for it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char directory[4096];
    char line[256];

    clock_gettime(CLOCK_MONOTONIC, &now);

    const char *report = argc > 1 ? argv[1] : getenv("BEACON_REPORT");
    const char *name = argc > 2 ? argv[2] : NULL;
    int ends = !report || (argc > 3 && strcmp(argv[3], "end") == 0);
    if (!name && getcwd(directory, sizeof directory)) {
        char *slash = strrchr(directory, '/');
        name = slash && slash[1] ? slash + 1 : NULL;
    }

    int fd = report ? open(report, O_WRONLY | O_CLOEXEC) : STDOUT_FILENO;
    if (fd < 0) {
        perror("beacon: cannot open the report");
        return 1;
    }
    long long ns = now.tv_sec * 1000000000LL + now.tv_nsec;
    int length = snprintf(line, sizeof line, "%s %ld %lld\n", name ? name : "beacon", (long)getpid(), ns);
    if (length < 0 || (size_t)length >= sizeof line || write(fd, line, (size_t)length) != length) {
        perror("beacon: cannot write the report");
        return 1;
    }
    close(fd);

    while (!ends)
        pause();
    return 0;
}
