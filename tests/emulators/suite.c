/* Tests whether an emulator does what builds ask of it.

     suite CHECK             one check: exit code 0, 1 with a line that says why not, or 2 where a system call is not there
     suite run SECONDS FILE  every check of FILE, this program built for another system: a line "CHECK OUTCOME" each, where
                             OUTCOME is ok, failed, ENOSYS, timeout, "signal N", or "not run" with the error of execve(2)

   FILE is executed as builds execute foreign programs: the kernel finds its emulator in binfmt_misc. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 1, MISSING = 2, NOT_RUN = 100 };

/* Ends the check; a feature that the kernel does not have is a separate outcome. */
static void no(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  _exit(errno == ENOSYS ? MISSING : FAILED);
}

static void must(int good, const char *what) {
  if (!good) no(what);
}

static void await(pid_t child, const char *what) {
  int status;
  must(child > 0 && waitpid(child, &status, 0) == child, what);
  errno = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == MISSING) errno = ENOSYS;
  must(WIFEXITED(status) && WEXITSTATUS(status) == 0, what);
}

/* --- programs -------------------------------------------------------------------------------------------------------- */

static char *self;

static void check_start(void) {}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t all;
static long counted, added;
static __thread long own;

enum { THREADS = 8, ROUNDS = 5000 };

static void *count(void *unused) {
  (void)unused;
  pthread_barrier_wait(&all);
  for (int i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&lock);
    counted++;
    pthread_mutex_unlock(&lock);
    __atomic_fetch_add(&added, 1, __ATOMIC_SEQ_CST);
    own++;
  }
  return (void *)own;
}

static void check_threads(void) {
  pthread_t threads[THREADS];
  void *mine;
  must(!pthread_barrier_init(&all, NULL, THREADS), "pthread_barrier_init");
  for (int i = 0; i < THREADS; i++) must(!(errno = pthread_create(&threads[i], NULL, count, NULL)), "pthread_create");
  for (int i = 0; i < THREADS; i++) {
    must(!(errno = pthread_join(threads[i], &mine)), "pthread_join");
    must((long)mine == ROUNDS, "a thread's own variable");
  }
  must(counted == THREADS * ROUNDS && added == counted, "what threads have counted");
}

/* Starts programs like shells and make, and from a program with threads. */
static volatile int idling = 1;
static void *idle(void *unused) {
  while (idling) sched_yield();
  return unused;
}

static void check_fork(void) {
  pthread_t beside;
  must(!(errno = pthread_create(&beside, NULL, idle, NULL)), "pthread_create");
  for (int i = 0; i < 20; i++) {
    int ends[2], told = 0;
    must(!pipe(ends), "pipe");
    pid_t child = fork();
    if (!child) {
      void *memory = malloc(1 << 20); /* a lock that another thread held would never be opened */
      must(memory && write(ends[1], &i, sizeof i) == sizeof i, "a child's write");
      _exit(0);
    }
    must(child > 0 && read(ends[0], &told, sizeof told) == sizeof told && told == i, "read from a child");
    await(child, "a child");
    close(ends[0]);
    close(ends[1]);
  }
  idling = 0;
  must(!(errno = pthread_join(beside, NULL)), "pthread_join");
}

/* busybox and gcc select their function by argv[0]. */
static void check_argv0(void) {
  char *arguments[] = {"another name", "argv0-told", "", "a b", NULL};
  execv(self, arguments);
  no("execve");
}

static int argv0_told(int count, char **arguments) {
  errno = 0;
  must(count == 4 && !strcmp(arguments[0], "another name"), "argv[0]");
  must(!strcmp(arguments[2], "") && !strcmp(arguments[3], "a b"), "arguments");
  return 0;
}

static void check_vfork(void) {
  for (int i = 0; i < 5; i++) {
    pid_t child = vfork();
    if (!child) {
      execl(self, self, "start", NULL);
      _exit(errno == ENOSYS ? MISSING : FAILED);
    }
    await(child, "a child of vfork that executes a program");
  }
}

/* --- system calls that emulators have lacked ------------------------------------------------------------------------- */

static void check_semop(void) {
  struct sembuf down = {0, -1, 0}, up = {0, 1, 0}, try = {0, -1, IPC_NOWAIT};
  struct timespec soon = {0, 1000000};
  int set = semget(IPC_PRIVATE, 1, 0600);
  must(set >= 0, "semget");
  pid_t child = fork();
  if (!child) {
    must(!semop(set, &down, 1), "semop that waits");
    _exit(0);
  }
  must(!semop(set, &up, 1), "semop");
  await(child, "semop in a child");
  must(semop(set, &try, 1) < 0 && errno == EAGAIN, "semop that must not wait");
  must(semtimedop(set, &down, 1, &soon) < 0 && errno == EAGAIN, "semtimedop");
  must(semctl(set, 0, GETVAL) == 0, "semctl");
  must(!semctl(set, 0, IPC_RMID), "semctl");
}

static void check_openat2(void) {
  struct open_how how = {.flags = O_RDONLY | O_DIRECTORY, .resolve = RESOLVE_BENEATH};
  int file = syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how);
  must(file >= 0, "openat2");
  must(syscall(SYS_openat2, file, "..", &how, sizeof how) < 0 && errno == EXDEV, "openat2 below its folder");
}

static void check_clone3(void) {
  struct clone_args how = {.exit_signal = SIGCHLD};
  pid_t child = syscall(SYS_clone3, &how, sizeof how);
  if (!child) _exit(0);
  await(child, "clone3");
}

/* --- memory ---------------------------------------------------------------------------------------------------------- */

/* ldconfig is a static program that maps each library's beginning, and the dynamic loader reserves room and fills it. */
static void check_mmap(void) {
  enum { PIECE = 65536, PIECES = 8 };
  char pattern[PIECE], name[] = "suite.XXXXXX";
  int file = mkstemp(name);
  must(file >= 0 && !unlink(name), "mkstemp");
  for (int i = 0; i < PIECES; i++) {
    memset(pattern, 'a' + i, PIECE);
    must(write(file, pattern, PIECE) == PIECE, "write");
  }
  for (int round = 0; round < 50; round++) {
    char *room = mmap(NULL, PIECE * PIECES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(room != MAP_FAILED, "mmap of room");
    for (int i = 0; i < PIECES; i++) {
      void *there = mmap(room + i * PIECE, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, (PIECES - 1 - i) * PIECE);
      must(there == room + i * PIECE, "mmap into the room");
      errno = 0;
      must(room[i * PIECE] == 'a' + PIECES - 1 - i && room[(i + 1) * PIECE - 1] == 'a' + PIECES - 1 - i, "what is mapped");
      room[i * PIECE] = 'Z';
    }
    must(!mprotect(room, PIECE, PROT_READ), "mprotect");
    room = mremap(room, PIECE, PIECE * 2, MREMAP_MAYMOVE);
    must(room != MAP_FAILED && room[0] == 'Z', "mremap");
    must(!munmap(room, PIECE * 2), "munmap");
  }
  must(pread(file, pattern, 1, 0) == 1 && pattern[0] == 'a', "the file behind private pages");
}

/* The heap of a static program follows the program in memory, where emulators have put other mappings. The heap may be small:
   then malloc uses mmap for the rest. */
static void check_heap(void) {
  enum { PIECES = 64 };
  char *pieces[2 * PIECES];
  int count = 0;
  for (char *piece; count < PIECES && (piece = sbrk(1 << 20)) != (void *)-1;) pieces[count++] = piece;
  for (int i = 0; i < PIECES; i++) must((pieces[count++] = malloc(1 << 20)) != NULL, "malloc");
  for (int i = 0; i < count; i++) memset(pieces[i], i, 1 << 20);
  errno = 0;
  for (int i = 0; i < count; i++) must(pieces[i][0] == i && pieces[i][(1 << 20) - 1] == i, "what is in memory");
}

/* --- signals --------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t ticks, children, told;
static void *volatile fault;
static char other_stack[1 << 16];
static volatile int on_other_stack;

static void tick(int number) {
  if (number == SIGALRM) ticks++;
  if (number == SIGCHLD) children++;
}

static void mend(int number, siginfo_t *info, void *context) {
  char here;
  (void)number, (void)context;
  fault = info->si_addr;
  on_other_stack = &here >= other_stack && &here < other_stack + sizeof other_stack;
  mprotect(info->si_addr, 4096, PROT_READ | PROT_WRITE);
}

static void take(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  told = info->si_value.sival_int;
}

static void check_signals(void) {
  struct sigaction ticking = {.sa_handler = tick, .sa_flags = SA_RESTART};
  struct sigaction mending = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  struct sigaction taking = {.sa_sigaction = take, .sa_flags = SA_SIGINFO};
  stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
  struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  must(!sigaction(SIGALRM, &ticking, NULL) && !sigaction(SIGCHLD, &ticking, NULL), "sigaction");
  must(!sigaction(SIGSEGV, &mending, NULL) && !sigaction(SIGUSR1, &taking, NULL), "sigaction");
  must(!sigaltstack(&stack, NULL), "sigaltstack");

  char *page = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(page != MAP_FAILED, "mmap");
  *(volatile char *)page = 1;
  errno = 0;
  must(fault == page && on_other_stack && *page == 1, "a fault that its handler mends");
  must(!sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711}) && told == 4711, "sigqueue");

  must(!setitimer(ITIMER_REAL, &often, NULL), "setitimer");
  for (int i = 0; i < 10; i++) { /* waits for children must work while signals come */
    pid_t child = fork();
    if (!child) _exit(0);
    await(child, "a child among signals");
  }
  while (ticks < 20) pause();
  must(!setitimer(ITIMER_REAL, &never, NULL), "setitimer");
  errno = 0;
  must(children > 0, "SIGCHLD");
}

/* --- byte order ------------------------------------------------------------------------------------------------------ */

/* Numbers are written in the byte order that this program's ELF header names. A copy whose header names the other byte order
   must be refused by execve; a binfmt_misc entry with too wide a mask would start an emulator that crashes. */
static void check_endian(void) {
  static char program[16 << 20];
  char name[] = "suite.XXXXXX";
  int32_t number = 0x01020304;
  int order = ELFDATA2LSB, from = open(self, O_RDONLY | O_CLOEXEC);
  ssize_t size = from < 0 ? -1 : read(from, program, sizeof program);
  must(size > EI_NIDENT, "read of the program itself");
  int file = mkstemp(name);
  must(file >= 0 && write(file, &number, sizeof number) == sizeof number, "write");
  unsigned char bytes[4];
  must(pread(file, bytes, 4, 0) == 4, "read");
  if (bytes[0] == 1) order = ELFDATA2MSB;
  errno = 0;
  must(program[EI_DATA] == order, "the byte order of a number in a file");
  program[EI_DATA] ^= ELFDATA2LSB ^ ELFDATA2MSB;
  must(pwrite(file, program, size, 0) == size && !fchmod(file, 0700) && !close(file), "write of a program");
  pid_t child = fork();
  if (!child) {
    execl(name, name, "start", NULL);
    _exit(errno == ENOEXEC ? 0 : FAILED);
  }
  int status;
  must(waitpid(child, &status, 0) == child && !unlink(name), "waitpid");
  errno = 0;
  must(WIFEXITED(status) && !WEXITSTATUS(status), "refusal of a program of the other byte order");
}

/* --- all ------------------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  void (*check)(void);
} checks[] = {
    {"start", check_start},     {"threads", check_threads}, {"fork", check_fork},       {"argv0", check_argv0},
    {"vfork", check_vfork},     {"semop", check_semop},     {"openat2", check_openat2}, {"clone3", check_clone3},
    {"mmap", check_mmap},       {"heap", check_heap},       {"signals", check_signals}, {"endian", check_endian},
};
enum { CHECKS = sizeof checks / sizeof *checks };

static void run_one(char *file, const char *name, int seconds) {
  int ends[2], status, number = 0;
  must(!pipe2(ends, O_CLOEXEC), "pipe2");
  pid_t child = fork();
  if (!child) {
    setpgid(0, 0);
    execl(file, file, name, NULL);
    number = errno;
    (void)!write(ends[1], &number, sizeof number);
    _exit(NOT_RUN);
  }
  must(child > 0, "fork");
  close(ends[1]);
  (void)!read(ends[0], &number, sizeof number);
  close(ends[0]);
  pid_t done = 0;
  for (int i = 0; i < seconds * 100 && !(done = waitpid(child, &status, WNOHANG)); i++) usleep(10000);
  kill(-child, SIGKILL);
  if (!done) waitpid(child, &status, 0);
  printf("%s ", name);
  if (number) printf("not run: %s\n", strerror(number));
  else if (!done) printf("timeout\n");
  else if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
  else printf("%s\n", WEXITSTATUS(status) == 0 ? "ok" : WEXITSTATUS(status) == MISSING ? "ENOSYS" : "failed");
  fflush(stdout);
}

int main(int count, char **arguments) {
  if (count > 1 && !strcmp(arguments[1], "argv0-told")) return argv0_told(count, arguments);
  self = arguments[0];
  if (count == 4 && !strcmp(arguments[1], "run")) {
    for (int i = 0; i < CHECKS; i++) run_one(arguments[3], checks[i].name, atoi(arguments[2]));
    return 0;
  }
  for (int i = 0; i < CHECKS; i++) {
    if (count == 2 && !strcmp(arguments[1], checks[i].name)) {
      checks[i].check();
      return 0;
    }
  }
  fprintf(stderr, "usage: suite CHECK | suite run SECONDS FILE\n");
  return FAILED;
}
