// A stand-in for NCCL and NVIDIA's driver in tests, after nccl.h and cuda.h: ranks are threads of one process, whose
// own memory is the GPUs'. What a device does depends on its number: 0 works, 1 is not there, 2 loses its peers, and
// 3 never connects.
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 8, GROUPS = 16, OPERATIONS = 64 };
enum { SUCCESS = 0, INVALID_ARGUMENT = 4, REMOTE_ERROR = 6, INVALID_DEVICE = 101, NOT_READY = 600 };
enum { FLOAT32 = 7, SUM = 0, NON_BLOCKING = 1 };

typedef struct {
    char internal[128];
} ncclUniqueId;

struct operation {
    int is_sum, come;
    size_t count;
    const float *from[RANKS];
    float *to[RANKS];
};

struct group {
    ncclUniqueId id;
    int ranks, come, done;
    struct operation operations[OPERATIONS];
};

struct communicator {
    struct group *group;
    int rank, device, started, is_aborted;
};

struct stream {
    struct communicator *communicator;
    int until;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct group groups[GROUPS];
static int group_count;
static struct communicator communicators[GROUPS * RANKS];
static int communicator_count;
static struct stream streams[GROUPS * RANKS];
static int stream_count;
static int contexts[4];
static _Thread_local int current_device = -1;

int ncclGetVersion(int *version) {
    *version = 23203;
    return SUCCESS;
}

int ncclGetUniqueId(ncclUniqueId *id) {
    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < sizeof id->internal; at++) {
        id->internal[at] = (char)(at * 7 + (size_t)group_count + 1);
    }
    groups[group_count++].id = *id;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int ncclCommInitRank(struct communicator **made, int ranks, ncclUniqueId id, int rank) {
    while (current_device == 3) {
        pause();
    }
    if (current_device < 0 || ranks > RANKS || rank < 0 || rank >= ranks) {
        return INVALID_ARGUMENT;
    }
    pthread_mutex_lock(&lock);
    struct group *group = NULL;
    for (int at = 0; at < group_count; at++) {
        if (memcmp(&groups[at].id, &id, sizeof id) == 0) {
            group = &groups[at];
        }
    }
    if (group == NULL) {
        pthread_mutex_unlock(&lock);
        return INVALID_ARGUMENT;
    }
    group->ranks = ranks;
    group->come++;
    pthread_cond_broadcast(&changed);
    while (group->come < ranks) {
        pthread_cond_wait(&changed, &lock);
    }
    struct communicator *own = &communicators[communicator_count++];
    own->group = group;
    own->rank = rank;
    own->device = current_device;
    *made = own;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

static void finish(struct group *group) {
    while (group->operations[group->done].come == group->ranks) {
        struct operation *operation = &group->operations[group->done++];
        for (int rank = 0; rank < group->ranks; rank++) {
            for (size_t at = 0; at < operation->count; at++) {
                float sum = 0;
                for (int other = 0; other < group->ranks; other++) {
                    float value = operation->from[other][at];
                    sum += value;
                    if (!operation->is_sum) {
                        operation->to[rank][(size_t)other * operation->count + at] = value;
                    }
                }
                if (operation->is_sum) {
                    operation->to[rank][at] = sum;
                }
            }
        }
    }
}

static int start(struct communicator *own, struct stream *stream, int is_sum, const float *from, float *to, size_t count) {
    pthread_mutex_lock(&lock);
    struct operation *operation = &own->group->operations[own->started++];
    operation->is_sum = is_sum;
    operation->count = count;
    operation->from[own->rank] = from;
    operation->to[own->rank] = to;
    operation->come++;
    stream->communicator = own;
    stream->until = own->started;
    finish(own->group);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, struct communicator *own, struct stream *stream) {
    if (type != FLOAT32 || operation != SUM) {
        return INVALID_ARGUMENT;
    }
    return start(own, stream, 1, from, to, count);
}

int ncclAllGather(const void *from, void *to, size_t count, int type, struct communicator *own, struct stream *stream) {
    if (type != FLOAT32) {
        return INVALID_ARGUMENT;
    }
    return start(own, stream, 0, from, to, count);
}

int ncclCommGetAsyncError(struct communicator *own, int *error) {
    *error = own->device == 2 && own->started > 0 ? REMOTE_ERROR : SUCCESS;
    return SUCCESS;
}

int ncclCommAbort(struct communicator *own) {
    pthread_mutex_lock(&lock);
    own->is_aborted = 1;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int ncclCommDestroy(struct communicator *own) {
    return ncclCommAbort(own);
}

const char *ncclGetErrorString(int error) {
    return error == REMOTE_ERROR ? "remote process exited or there was a network error" : "invalid argument";
}

const char *ncclGetLastError(struct communicator *own) {
    return own == NULL ? "" : "socket closed by the peer\n";
}

int cuInit(unsigned flags) {
    return flags == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGet(int *device, int number) {
    *device = number;
    return number == 1 || number > 3 ? INVALID_DEVICE : SUCCESS;
}

int cuDevicePrimaryCtxRetain(int **context, int device) {
    contexts[device] = device;
    *context = &contexts[device];
    return SUCCESS;
}

int cuCtxSetCurrent(int *context) {
    current_device = *context;
    return SUCCESS;
}

int cuStreamCreate(struct stream **made, unsigned flags) {
    if (current_device < 0 || flags != NON_BLOCKING) {
        return INVALID_DEVICE;
    }
    pthread_mutex_lock(&lock);
    *made = &streams[stream_count++];
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cuStreamQuery(struct stream *stream) {
    pthread_mutex_lock(&lock);
    struct communicator *own = stream->communicator;
    int is_done = own == NULL || own->is_aborted || own->group->done >= stream->until;
    pthread_mutex_unlock(&lock);
    return is_done ? SUCCESS : NOT_READY;
}

int cuStreamDestroy_v2(struct stream *stream) {
    stream->communicator = NULL;
    return SUCCESS;
}

int cuGetErrorName(int status, const char **name) {
    *name = status == INVALID_DEVICE ? "CUDA_ERROR_INVALID_DEVICE" : NULL;
    return SUCCESS;
}
