// A stand-in for NVIDIA's driver that runs no kernel: the device's memory is the host's, and what is asked of the device
// is counted. STAND_IN_ARCH is its compute capability (90), STAND_IN_MEMORY its memory in MiB (80 GiB), STAND_IN_LOG the
// file of the counts, STAND_IN_MODULES a folder for the code of all kernels. Declared as in cuda.h, as far as callers see.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { OK = 0, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500 };
typedef int Result;
typedef void *Handle;

struct kernel {
    char name[256];
    unsigned long launches;
    struct kernel *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kernel *kernels;
static unsigned long launches, waits, uploads, uploaded, downloads, allocations, modules, peak;

static __thread int launches_kernels;

static void count(unsigned long *counter, unsigned long by) { __atomic_add_fetch(counter, by, __ATOMIC_RELAXED); }

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("STAND_IN_LOG");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "launches %lu\nwaits %lu\nuploads %lu\nbytes %lu\ndownloads %lu\nallocations %lu\nmodules %lu\n"
                  "peak %lu\n",
            launches, waits, uploads, uploaded, downloads, allocations, modules, peak);
    for (struct kernel *kernel = kernels; kernel; kernel = kernel->next)
        if (kernel->launches) fprintf(file, "kernel:%s %lu\n", kernel->name, kernel->launches);
    fclose(file);
}

// A thread of CubeCL's frees what two streams shared once both are done with it. It was started by the thread that
// launches kernels, whose name it has, and holds nothing up.
static void count_wait(void) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (launches_kernels || strncmp(name, "DS", 2) != 0) count(&waits, 1);
}

static Handle new_handle(void) {
    static unsigned long last = 0x1000;
    return (Handle)__atomic_add_fetch(&last, 16, __ATOMIC_RELAXED);
}

Result cuInit(unsigned flags) { (void)flags; return OK; }
Result cuDriverGetVersion(int *version) { *version = 13000; return OK; }
// NVRTC asks for tables of functions that are in no header.
Result cuGetExportTable(const void **table, const void *id) { (void)id; *table = NULL; return NOT_FOUND; }
Result cuGetErrorName(int error, const char **name) { (void)error; *name = "STAND_IN"; return OK; }
Result cuGetErrorString(int error, const char **text) { (void)error; *text = "an error of the stand-in"; return OK; }

Result cuDeviceGetCount(int *devices) { *devices = 1; return OK; }
Result cuDeviceGet(int *device, int index) { *device = index; return index == 0 ? OK : INVALID_DEVICE; }
Result cuDeviceGetName(char *name, int len, int device) { (void)device; snprintf(name, len, "stand-in"); return OK; }
Result cuDeviceGetUuid_v2(char *uuid, int device) { (void)device; memset(uuid, 7, 16); return OK; }
Result cuDeviceGetPCIBusId(char *id, int len, int device) { (void)device; snprintf(id, len, "0000:00:00.0"); return OK; }
static size_t memory(void) {
    const char *mib = getenv("STAND_IN_MEMORY");
    return mib ? strtoul(mib, NULL, 10) << 20 : 80ul << 30;
}
static size_t taken;
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = memory(); return OK; }
Result cuMemGetInfo_v2(size_t *available, size_t *all) {
    *all = memory();
    *available = *all - __atomic_load_n(&taken, __ATOMIC_RELAXED);
    return OK;
}
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *given = getenv("STAND_IN_ARCH");
    int arch = given ? atoi(given) : 90;
    (void)device;
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break; // threads of a block
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break; // blocks of a grid
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;   // shared memory of a block
    case 97: *value = 166912; break; // and on request
    case 10: *value = 32; break;     // threads of a warp
    case 16: *value = 132; break;    // multiprocessors
    case 75: *value = arch / 10; break;
    case 76: *value = arch % 10; break;
    default: *value = 1;
    }
    return OK;
}

Result cuDevicePrimaryCtxRetain(Handle *context, int device) { (void)device; *context = (Handle)0x10; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
Result cuCtxSetCurrent(Handle context) { (void)context; return OK; }
Result cuCtxGetCurrent(Handle *context) { *context = (Handle)0x10; return OK; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return OK; }
Result cuCtxSynchronize(void) { count_wait(); return OK; }

Result cuStreamCreate(Handle *stream, unsigned flags) { (void)flags; *stream = new_handle(); return OK; }
Result cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) {
    (void)priority;
    return cuStreamCreate(stream, flags);
}
Result cuStreamDestroy_v2(Handle stream) { (void)stream; return OK; }
Result cuStreamQuery(Handle stream) { (void)stream; return OK; }
Result cuStreamSynchronize(Handle stream) { (void)stream; count_wait(); return OK; }
Result cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { (void)stream, (void)event, (void)flags; return OK; }
Result cuStreamIsCapturing(Handle stream, int *state) { (void)stream; *state = 0; return OK; }
Result cuEventCreate(Handle *event, unsigned flags) { (void)flags; *event = new_handle(); return OK; }
Result cuEventDestroy_v2(Handle event) { (void)event; return OK; }
Result cuEventRecord(Handle event, Handle stream) { (void)event, (void)stream; return OK; }
Result cuEventQuery(Handle event) { (void)event; return OK; }
Result cuEventSynchronize(Handle event) { (void)event; count_wait(); return OK; }
Result cuEventElapsedTime_v2(float *ms, Handle begin, Handle end) { (void)begin, (void)end; *ms = 0.01f; return OK; }

// Pages that nobody touches take no memory.
static Result take(uint64_t *address, size_t bytes) {
    size_t whole = (bytes + 4095) / 4096 * 4096 + 4096;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    size_t now = __atomic_add_fetch(&taken, whole, __ATOMIC_RELAXED);
    if (now > memory()) {
        __atomic_sub_fetch(&taken, whole, __ATOMIC_RELAXED);
        return OUT_OF_MEMORY;
    }
    for (unsigned long most = peak; most < now;)
        if (__atomic_compare_exchange_n(&peak, &most, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
    char *at = mmap(NULL, whole, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) return OUT_OF_MEMORY;
    count(&allocations, 1);
    *(size_t *)at = whole;
    *address = (uint64_t)(at + 4096);
    return OK;
}
static Result give(uint64_t address) {
    char *at = (char *)address - 4096;
    if (!address) return OK;
    __atomic_sub_fetch(&taken, *(size_t *)at, __ATOMIC_RELAXED);
    munmap(at, *(size_t *)at);
    return OK;
}
Result cuMemAlloc_v2(uint64_t *address, size_t bytes) { return take(address, bytes); }
Result cuMemAllocAsync(uint64_t *address, size_t bytes, Handle stream) { (void)stream; return take(address, bytes); }
Result cuMemFree_v2(uint64_t address) { return give(address); }
Result cuMemFreeAsync(uint64_t address, Handle stream) { (void)stream; return give(address); }
Result cuMemAllocHost_v2(void **at, size_t bytes) { return posix_memalign(at, 4096, bytes) ? OUT_OF_MEMORY : OK; }
Result cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { (void)flags; return cuMemAllocHost_v2(at, bytes); }
Result cuMemFreeHost(void *at) { free(at); return OK; }
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, Handle stream) {
    (void)stream;
    count(&uploads, 1);
    count(&uploaded, bytes);
    memcpy((void *)to, from, bytes);
    return OK;
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, Handle stream) {
    (void)from, (void)stream;
    count(&downloads, 1);
    // What no kernel has computed, a run must take for finite.
    memset(to, 0, bytes);
    return OK;
}
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Handle stream) {
    (void)to, (void)from, (void)bytes, (void)stream;
    return OK;
}
struct rows {
    size_t from_x, from_y;
    int from_kind;
    const char *from_host;
    uint64_t from_device;
    Handle from_array;
    size_t from_pitch, to_x, to_y;
    int to_kind;
    char *to_host;
    uint64_t to_device;
    Handle to_array;
    size_t to_pitch, width, height;
};
// The time of such a copy is that of its rows.
Result cuMemcpy2DAsync_v2(const struct rows *rows, Handle stream) {
    const char *from = rows->from_kind == 1 ? rows->from_host : (const char *)rows->from_device;
    char *to = rows->to_kind == 1 ? rows->to_host : (char *)rows->to_device;
    (void)stream;
    if (rows->to_kind == 1) count(&downloads, rows->height);
    else count(&uploads, rows->height), count(&uploaded, rows->height * rows->width);
    for (size_t row = 0; row < rows->height; row++) {
        char *line = to + row * rows->to_pitch;
        if (rows->to_kind == 1) memset(line, 0, rows->width);
        else memcpy(line, from + row * rows->from_pitch, rows->width);
    }
    return OK;
}

Result cuModuleLoadData(Handle *module, const void *image) {
    static unsigned long number;
    const char *folder = getenv("STAND_IN_MODULES");
    count(&modules, 1);
    *module = new_handle();
    if (!folder) return OK;
    char path[4096];
    snprintf(path, sizeof path, "%s/%04lu.ptx", folder, __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED));
    FILE *file = fopen(path, "w");
    if (!file) return NOT_FOUND;
    fputs(image, file);
    fclose(file);
    return OK;
}
Result cuModuleUnload(Handle module) { (void)module; return OK; }
Result cuModuleGetFunction(struct kernel **function, Handle module, const char *name) {
    struct kernel *kernel = calloc(1, sizeof *kernel);
    (void)module;
    if (!kernel) return OUT_OF_MEMORY;
    snprintf(kernel->name, sizeof kernel->name, "%s", name);
    pthread_mutex_lock(&lock);
    kernel->next = kernels;
    kernels = kernel;
    pthread_mutex_unlock(&lock);
    *function = kernel;
    return OK;
}
Result cuFuncSetAttribute(struct kernel *kernel, int attribute, int value) {
    (void)kernel, (void)attribute, (void)value;
    return OK;
}
// The grid, the block and the arguments do not matter.
Result cuLaunchKernel(struct kernel *kernel) {
    launches_kernels = 1;
    count(&kernel->launches, 1);
    count(&launches, 1);
    return OK;
}
Result cuLaunchKernelEx(const void *config, struct kernel *kernel) { (void)config; return cuLaunchKernel(kernel); }
Result cuTensorMapEncodeTiled(void *map) { (void)map; return OK; }
