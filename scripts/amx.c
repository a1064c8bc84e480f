/* AMX's bf16 instructions, emulated where the processor lacks them: each raises SIGILL, and its handler does what the
 * instruction would. For tests of values, not for speed:
 *
 *     cc -O1 -shared -fPIC scripts/amx.c -o amx.so
 *     COUPLET_TEST_AMX=1 LD_PRELOAD=./amx.so cargo test --release --package couplet-kernels --lib product
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* 16 rows of 64 bytes each. */
static __thread uint8_t tiles[8][16][64];
static __thread int rows[8], row_bytes[8], is_configured;

static uint64_t general(const ucontext_t *context, int number) {
    static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return (uint64_t)context->uc_mcontext.gregs[places[number]];
}

static void fail(const uint8_t *code, const char *why) {
    fprintf(stderr, "amx.c: %s:", why);
    for (int at = 0; at < 8; at++) fprintf(stderr, " %02x", code[at]);
    fprintf(stderr, "\n");
    abort();
}

/* A memory operand: its base, and what its index adds for each row. Returns the length of ModRM, SIB and displacement. */
static int operand(const ucontext_t *context, const uint8_t *code, uint64_t *base, uint64_t *stride) {
    int modrm = code[4], mod = modrm >> 6, rm = modrm & 7, len = 1;
    int r_b = code[1] & 0x20 ? 0 : 8, r_x = code[1] & 0x40 ? 0 : 8;
    *stride = 0;
    if (mod == 3) fail(code, "no memory operand");
    if (rm == 4) {
        int sib = code[5], index = (sib >> 3 & 7) + r_x;
        len++;
        if ((sib & 7) == 5 && mod == 0) fail(code, "no base");
        *base = general(context, (sib & 7) + r_b);
        if (index != 4) *stride = general(context, index) << (sib >> 6);
    } else {
        if (mod == 0 && rm == 5) fail(code, "relative to the instruction");
        *base = general(context, rm + r_b);
    }
    if (mod == 1) *base += (int8_t)code[4 + len], len += 1;
    if (mod == 2) *base += *(const int32_t *)(code + 4 + len), len += 4;
    return len;
}

static void configure(const uint8_t *config, const uint8_t *code) {
    if (config[0] != 1) fail(code, "palette is not 1");
    for (int at = 2; at < 16; at++) if (config[at]) fail(code, "reserved bytes of a configuration");
    for (int tile = 0; tile < 8; tile++) {
        row_bytes[tile] = config[16 + 2 * tile] | config[17 + 2 * tile] << 8;
        rows[tile] = config[48 + tile];
        if (row_bytes[tile] > 64 || rows[tile] > 16) fail(code, "a tile is too large");
    }
    memset(tiles, 0, sizeof tiles);
    is_configured = 1;
}

static float from_bf16(const uint8_t *at) {
    uint32_t bits = (uint32_t)(at[0] | at[1] << 8) << 16;
    float value;
    /* Denormal operands are zero. */
    if (!(bits & 0x7f800000)) bits &= 0x80000000;
    memcpy(&value, &bits, 4);
    return value;
}

static void multiply(int sums, int left, int right, const uint8_t *code) {
    if (sums == left || sums == right || left == right) fail(code, "a tile twice");
    if (rows[sums] != rows[left] || row_bytes[sums] != row_bytes[right] || row_bytes[left] / 4 != rows[right])
        fail(code, "tiles do not match");
    for (int row = 0; row < rows[sums]; row++)
        for (int pair = 0; pair < row_bytes[left] / 4; pair++)
            for (int column = 0; column < row_bytes[sums] / 4; column++) {
                float sum;
                memcpy(&sum, &tiles[sums][row][column * 4], 4);
                for (int half = 0; half < 2; half++)
                    sum += from_bf16(&tiles[left][row][pair * 4 + half * 2]) * from_bf16(&tiles[right][pair][column * 4 + half * 2]);
                memcpy(&tiles[sums][row][column * 4], &sum, 4);
            }
}

static void on_illegal(int signal, siginfo_t *info, void *opaque) {
    (void)signal, (void)info;
    ucontext_t *context = opaque;
    const uint8_t *code = (const uint8_t *)context->uc_mcontext.gregs[REG_RIP];
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2) fail(code, "an illegal instruction");
    int prefix = code[2] & 3, opcode = code[3], modrm = code[4], len = 5;
    int reg = modrm >> 3 & 7, rm = modrm & 7, vvvv = ~code[2] >> 3 & 15;
    uint64_t base, stride;
    if (opcode == 0x49 && prefix == 0 && modrm == 0xc0) {
        is_configured = 0;
    } else if (opcode == 0x49 && prefix == 0) {
        len = 4 + operand(context, code, &base, &stride);
        configure((const uint8_t *)base, code);
    } else {
        if (!is_configured) fail(code, "tiles are not configured");
        if (opcode == 0x49 && prefix == 3) {
            memset(tiles[reg], 0, sizeof tiles[reg]);
        } else if (opcode == 0x4b && (prefix == 3 || prefix == 2)) {
            len = 4 + operand(context, code, &base, &stride);
            for (int row = 0; row < rows[reg]; row++) {
                uint8_t *memory = (uint8_t *)(base + stride * (uint64_t)row);
                if (prefix == 3) memcpy(tiles[reg][row], memory, (size_t)row_bytes[reg]);
                else memcpy(memory, tiles[reg][row], (size_t)row_bytes[reg]);
            }
        } else if (opcode == 0x5c && prefix == 2 && modrm >= 0xc0) {
            multiply(reg, rm, vvvv, code);
        } else {
            fail(code, "an instruction that is not emulated");
        }
    }
    context->uc_mcontext.gregs[REG_RIP] += len;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
}
