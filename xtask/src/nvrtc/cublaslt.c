// A stand-in for cuBLASLt that multiplies nothing and counts products, in STAND_IN_LOG with `.products` added.
// Declared as in cublasLt.h, as far as callers see.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;

static unsigned long products;
static char something[16];

__attribute__((destructor)) static void report(void) {
    const char *log = getenv("STAND_IN_LOG");
    char path[4096];
    if (!log) return;
    snprintf(path, sizeof path, "%s.products", log);
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "products %lu\n", products);
    fclose(file);
}

Status cublasLtCreate(void **library) { *library = something; return 0; }
Status cublasLtDestroy(void *library) { (void)library; return 0; }
Status cublasLtMatrixLayoutCreate(void **layout) { *layout = something; return 0; }
Status cublasLtMatrixLayoutSetAttribute(void *layout) { (void)layout; return 0; }
Status cublasLtMatrixLayoutDestroy(void *layout) { (void)layout; return 0; }
Status cublasLtMatmulDescCreate(void **operation) { *operation = something; return 0; }
Status cublasLtMatmulDescSetAttribute(void *operation) { (void)operation; return 0; }
Status cublasLtMatmulDescDestroy(void *operation) { (void)operation; return 0; }
Status cublasLtMatmulPreferenceCreate(void **preference) { *preference = something; return 0; }
Status cublasLtMatmulPreferenceSetAttribute(void *preference) { (void)preference; return 0; }
Status cublasLtMatmulPreferenceDestroy(void *preference) { (void)preference; return 0; }
Status cublasLtMatmulAlgoGetHeuristic(void *library, void *operation, void *a, void *b, void *c, void *d,
                                      void *preference, int most, void *results, int *found) {
    (void)library, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)preference, (void)most;
    memset(results, 0, 96); // cublasLtMatmulHeuristicResult_t
    *found = 1;
    return 0;
}
Status cublasLtMatmul(void *library) {
    (void)library;
    __atomic_add_fetch(&products, 1, __ATOMIC_RELAXED);
    return 0;
}
