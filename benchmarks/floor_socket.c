/* The floor of the pipes' benchmark: two processes and a Unix stream socket, without any Python.
 *
 * floor_socket SIZE CPU_PARENT CPU_CHILD     (a CPU of -1: wherever the scheduler likes)
 *
 * Reads lines "e COUNT", "w COUNT" or "s COUNT" from stdin. "e": COUNT round trips of SIZE bytes each way. "w": the
 * same, each after a millisecond of silence. "s": COUNT messages of SIZE bytes one way, then one byte back, timed as
 * one. Answers with the times in seconds as doubles, and ends with stdin. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static size_t size;
static char *buffer;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void pin(int cpu) {
    cpu_set_t set;
    if (cpu < 0) return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void move(int fd, int sending, size_t count) {
    for (size_t at = 0; at < count;) {
        ssize_t moved = sending ? write(fd, buffer + at, count - at) : read(fd, buffer + at, count - at);
        if (moved <= 0) exit(0);
        at += moved;
    }
}

int main(int argc, char **argv) {
    int ends[2];
    long count;
    char what;
    if (argc != 4) return 2;
    size = strtoul(argv[1], NULL, 10);
    buffer = calloc(size, 1);
    if (!buffer || socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 1;
    if (fork() == 0) {
        close(ends[0]);
        pin(atoi(argv[3]));
        for (;;) {
            move(ends[1], 0, size);
            if (buffer[0] == 'e') move(ends[1], 1, size);
            if (buffer[0] == 'a') move(ends[1], 1, 1);
        }
    }
    close(ends[1]);
    pin(atoi(argv[2]));
    while (scanf(" %c %ld", &what, &count) == 2) {
        double start = now();
        for (long i = 0; i < count; i++) {
            int trip = what != 's';
            buffer[0] = trip ? 'e' : i == count - 1 ? 'a' : 's';
            if (what == 'w') usleep(1000);
            if (trip) start = now();
            move(ends[0], 1, size);
            if (trip) move(ends[0], 0, size);
            if (trip) {
                double took = now() - start;
                fwrite(&took, sizeof took, 1, stdout);
            }
        }
        if (what == 's') {
            move(ends[0], 0, 1);
            double took = now() - start;
            fwrite(&took, sizeof took, 1, stdout);
        }
        fflush(stdout);
    }
    close(ends[0]);
    wait(NULL);
    return 0;
}
