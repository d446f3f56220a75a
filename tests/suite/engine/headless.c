/* A process whose first thread ends long before the others: the kernel shows it as a zombie. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *live(void *argument) {
    (void)argument;
    /* The first thread has ended by then. */
    sleep(1);
    FILE *pids = fopen("pids", "a");
    fprintf(pids, "%d\n", getpid());
    fclose(pids);
    for (;;) pause();
}

int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, live, NULL) != 0) return 1;
    pthread_exit(NULL);
}
