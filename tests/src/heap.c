/* Counts what a program holds of the heap, its C parts included: loaded in front of glibc, it tells in a shared file
 * how many bytes and blocks are allocated at every moment. What the allocator keeps for later is not among them, which
 * tells a leak from an allocator's habits. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

struct held {
    atomic_long bytes;
    atomic_long blocks;
};

static struct held before_main;
static struct held *held = &before_main;

static void *taken(void *block) {
    if (block) {
        atomic_fetch_add_explicit(&held->bytes, malloc_usable_size(block), memory_order_relaxed);
        atomic_fetch_add_explicit(&held->blocks, 1, memory_order_relaxed);
    }
    return block;
}

static void given_back(void *block) {
    if (block) {
        atomic_fetch_sub_explicit(&held->bytes, malloc_usable_size(block), memory_order_relaxed);
        atomic_fetch_sub_explicit(&held->blocks, 1, memory_order_relaxed);
    }
}

void *malloc(size_t size) { return taken(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return taken(__libc_calloc(count, size)); }

void *memalign(size_t alignment, size_t size) { return taken(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    void *new = memalign(alignment, size);
    if (!new) return ENOMEM;
    *block = new;
    return 0;
}

void *realloc(void *block, size_t size) {
    given_back(block);
    void *new = __libc_realloc(block, size);
    /* Where it fails, the old block stays. */
    return new || !size ? taken(new) : (taken(block), NULL);
}

void free(void *block) {
    given_back(block);
    __libc_free(block);
}

/* Runs before there are threads. Children of the program would overwrite its numbers, so they are left alone. */
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HEAP_COUNTS");
    if (!path) return;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *held)) abort();
    struct held *shared = mmap(NULL, sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) abort();
    close(file);
    unsetenv("HEAP_COUNTS");
    shared->bytes = before_main.bytes;
    shared->blocks = before_main.blocks;
    held = shared;
}
