// Records when each kernel, copy and fill of a program began and ended on an NVIDIA GPU, for kernel-times.py. It needs CUPTI
// of the driver's version (`pip install nvidia-cuda-cupti`, or the CUDA toolkit):
//
//     cc -O1 -shared -fPIC -I CUPTI/include -I CUDA/include scripts/kernel-times.c CUPTI/lib/libcupti.so.13 -o times.so
//     CUDA_INJECTION64_PATH=./times.so KERNEL_TIMES=times.txt couplet bench step --device cuda:0 ...
//     python3 scripts/kernel-times.py times.txt
//
// A line is: begin and end in nanoseconds, the stream, the grid, the name.
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *out;

static void CUPTIAPI requested(uint8_t **buffer, size_t *size, size_t *records) {
    *size = 8 << 20;
    *buffer = aligned_alloc(8, *size);
    *records = 0;
}

static void line(uint64_t begin, uint64_t end, uint32_t stream) {
    fprintf(out, "%llu %llu %u ", (unsigned long long)begin, (unsigned long long)end, stream);
}

static void CUPTIAPI completed(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
    (void)context, (void)stream, (void)size;
    CUpti_Activity *record = NULL;
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            const CUpti_ActivityKernel10 *kernel = (const void *)record;
            line(kernel->start, kernel->end, kernel->streamId);
            fprintf(out, "%d,%d,%d %s\n", kernel->gridX, kernel->gridY, kernel->gridZ, kernel->name ? kernel->name : "?");
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const CUpti_ActivityMemcpy6 *copy = (const void *)record;
            line(copy->start, copy->end, copy->streamId);
            fprintf(out, "%llu,1,1 memcpy\n", (unsigned long long)copy->bytes);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            const CUpti_ActivityMemset4 *fill = (const void *)record;
            line(fill->start, fill->end, fill->streamId);
            fprintf(out, "%llu,1,1 memset\n", (unsigned long long)fill->bytes);
        }
    }
    free(buffer);
}

static void at_end(void) {
    cuptiActivityFlushAll(1);
    fflush(out);
}

// NVIDIA's driver calls it when the program first uses it.
int InitializeInjection(void) {
    const char *path = getenv("KERNEL_TIMES");
    out = fopen(path ? path : "kernel-times.txt", "w");
    if (!out) return 0;
    cuptiActivityRegisterCallbacks(requested, completed);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
    atexit(at_end);
    return 1;
}
