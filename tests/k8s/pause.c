// The process that holds a pod's namespaces: it sleeps, collects the children that others have left to it, and goes when it is
// told to. As the first process of a namespace it is the only one that can do the collecting. The node's own namespaces
// are held by it as well.
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGCHLD);
  // The kernel drops a signal for the first process of a namespace, unless there is a handler for it or it is blocked.
  if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0) return 1;
  for (;;) {
    int signal;
    if (sigwait(&signals, &signal) != 0) return 1;
    if (signal != SIGCHLD) return 0;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}
