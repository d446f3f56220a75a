/* Runs away: COUNT processes at a time fork, leave their session, ignore signals, rename
 * themselves, clean their environment, close their files and die in turn, for two minutes. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static time_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec;
}

static void hide(unsigned hop) {
    char name[16] = "kworker/0:0";
    name[10] = '0' + hop % 10;
    setsid();
    prctl(PR_SET_NAME, name);
    for (char **entry = environ; entry && *entry; entry++)
        memset(*entry, 0, strlen(*entry));
    clearenv();
    for (int signal = 1; signal < 32; signal++)
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    close_range(0, ~0U, 0);
    if (chdir("/")) return;
}

static void run(time_t until) {
    for (unsigned hop = 0; seconds() < until; hop++) {
        pid_t pid = fork();
        if (pid > 0) _exit(0);
        if (pid == 0) hide(hop);
        /* The machine has other work, too. */
        usleep(1000);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1;
    time_t until = seconds() + 120;
    signal(SIGCHLD, SIG_IGN);
    for (int each = 0; each < count; each++)
        if (fork() == 0) run(until);
    signal(SIGTERM, SIG_IGN);
    while (seconds() < until) pause();
    return 0;
}
