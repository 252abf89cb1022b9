/*
 * One connection that carries as much as it can.
 *
 *   stream serve PORT               takes connections, one after the other, and reads them
 *   stream send HOST PORT MILLIS    sends for so long, then prints bytes per second
 *
 * The reader says how much it got, so that nothing counts that is still on its way.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 * 1024];

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int serve(int port)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port) };
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 16))
        return fail("stream: bind");
    for (;;) {
        int client = accept(listener, NULL, NULL);
        long long total = 0;
        ssize_t count;
        if (client < 0)
            return fail("stream: accept");
        while ((count = read(client, buffer, sizeof buffer)) > 0)
            total += count;
        if (write(client, &total, sizeof total) != sizeof total)
            perror("stream: answer");
        close(client);
    }
}

static int transmit(const char *host, int port, int millis)
{
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port) };
    int server = socket(AF_INET, SOCK_STREAM, 0);
    long long total = 0;

    if (inet_pton(AF_INET, host, &there.sin_addr) != 1)
        return fail("stream: address");
    if (connect(server, (struct sockaddr *)&there, sizeof there))
        return fail("stream: connect");
    long long begin = now();
    while (now() - begin < millis * 1000000LL)
        if (write(server, buffer, sizeof buffer) < 0)
            return fail("stream: write");
    shutdown(server, SHUT_WR);
    if (read(server, &total, sizeof total) != sizeof total)
        return fail("stream: no answer");
    printf("%.0f\n", total / ((now() - begin) / 1e9));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve(atoi(argv[2]));
    if (argc == 5 && strcmp(argv[1], "send") == 0)
        return transmit(argv[2], atoi(argv[3]), atoi(argv[4]));
    fputs("usage: stream serve PORT | stream send HOST PORT MILLIS\n", stderr);
    return 2;
}
