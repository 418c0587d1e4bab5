/* A stand-in for the CUDA driver, for tests on machines without a GPU.

   "Device" memory is host memory, work is done at once, and a stream that captures records it
   instead: so the calls, their order and their arguments are real, and nothing is computed by a
   GPU. Handles are checked: a call with a freed or foreign one answers an error. What is alive can
   be counted, so that a leak fails a test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define INVALID_VALUE 1
#define NO_MEMORY 2
#define INVALID_CONTEXT 201
#define INVALID_HANDLE 400
#define NOT_FOUND 500
#define EXPORT __attribute__((visibility("default")))

enum kind { COPY, CALL };
typedef void (*callback)(void *);
typedef struct { enum kind kind; void *to; const void *from; size_t size; callback call; void *with; } node;
typedef struct { node *nodes; int count; } graph;
typedef struct { int magic; int capturing; graph recorded; } stream;
typedef struct { int magic; } event;

static const int STREAM = 0x5354, EVENT = 0x4556;
static int context_word;
static void *const context = &context_word;
static __thread int depth;
static int alive, retained, integrated = -1;

static int is_integrated(void) {
  if (integrated < 0) integrated = getenv("STANDIN_INTEGRATED") != NULL;
  return integrated;
}
static int need(void) { return depth > 0 ? OK : INVALID_CONTEXT; }
static void perform(const node *n) {
  if (n->kind == COPY) memcpy(n->to, n->from, n->size); else n->call(n->with);
}
static int enqueue(stream *s, node n) {
  if (need()) return INVALID_CONTEXT;
  if (!s || s->magic != STREAM) return INVALID_HANDLE;
  if (!s->capturing) { perform(&n); return OK; }
  s->recorded.nodes = realloc(s->recorded.nodes, (s->recorded.count + 1) * sizeof n);
  s->recorded.nodes[s->recorded.count++] = n;
  return OK;
}

EXPORT int standin_alive(void) { return alive; }
EXPORT int standin_retained(void) { return retained; }
EXPORT int standin_enqueue(void *s, callback call, void *with) {
  node n = {CALL, 0, 0, 0, call, with};
  return enqueue(s, n);
}

EXPORT int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
EXPORT int cuDriverGetVersion(int *v) { *v = 12060; return OK; }
EXPORT int cuDeviceGetCount(int *n) { *n = 1; return OK; }
EXPORT int cuDeviceGet(int *d, int ordinal) { *d = 0; return ordinal ? 101 : OK; }
EXPORT int cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "Stand-in"); return OK; }
EXPORT int cuDeviceTotalMem_v2(size_t *m, int d) { *m = 1u << 30; return OK; }
EXPORT int cuDeviceGetAttribute(int *v, int a, int d) {
  *v = a == 75 ? 8 : a == 76 ? 7 : a == 18 ? is_integrated() : 1;
  return OK;
}
EXPORT int cuGetErrorName(int e, const char **s) {
  *s = e == OK ? "CUDA_SUCCESS" : e == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
     : e == INVALID_HANDLE ? "CUDA_ERROR_INVALID_HANDLE" : "CUDA_ERROR_INVALID_VALUE";
  return OK;
}
EXPORT int cuDevicePrimaryCtxRetain(void **c, int d) { *c = context; retained++; return OK; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int d) { retained--; return OK; }
EXPORT int cuCtxPushCurrent_v2(void *c) { if (c != context) return INVALID_CONTEXT; depth++; return OK; }
EXPORT int cuCtxPopCurrent_v2(void **c) {
  if (need()) return INVALID_CONTEXT;
  depth--;
  if (c) *c = context;
  return OK;
}
static void *allocate(size_t size) {
  void *p = NULL;
  if (posix_memalign(&p, 256, size)) return NULL;
  memset(p, 0xA5, size);
  alive++;
  return p;
}
EXPORT int cuMemHostAlloc(void **p, size_t size, unsigned flags) {
  if (need()) return INVALID_CONTEXT;
  if (flags && !is_integrated()) return INVALID_VALUE;
  return (*p = allocate(size)) ? OK : NO_MEMORY;
}
EXPORT int cuMemHostGetDevicePointer_v2(uint64_t *d, void *p, unsigned flags) {
  if (need()) return INVALID_CONTEXT;
  *d = (uint64_t)(uintptr_t)p;
  return OK;
}
EXPORT int cuMemFreeHost(void *p) { if (need()) return INVALID_CONTEXT; free(p); alive--; return OK; }
EXPORT int cuMemAlloc_v2(uint64_t *d, size_t size) {
  if (need()) return INVALID_CONTEXT;
  void *p = allocate(size);
  *d = (uint64_t)(uintptr_t)p;
  return p ? OK : NO_MEMORY;
}
EXPORT int cuMemFree_v2(uint64_t d) {
  if (need()) return INVALID_CONTEXT;
  free((void *)(uintptr_t)d);
  alive--;
  return OK;
}
EXPORT int cuMemGetInfo_v2(size_t *f, size_t *t) {
  if (need()) return INVALID_CONTEXT;
  *f = 1u << 29;
  *t = 1u << 30;
  return OK;
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t d, const void *h, size_t n, void *s) {
  node copy = {COPY, (void *)(uintptr_t)d, h, n, 0, 0};
  return enqueue(s, copy);
}
EXPORT int cuMemcpyDtoHAsync_v2(void *h, uint64_t d, size_t n, void *s) {
  node copy = {COPY, h, (const void *)(uintptr_t)d, n, 0, 0};
  return enqueue(s, copy);
}
EXPORT int cuStreamCreate(void **s, unsigned flags) {
  if (need()) return INVALID_CONTEXT;
  stream *made = calloc(1, sizeof *made);
  made->magic = STREAM;
  *s = made;
  alive++;
  return OK;
}
EXPORT int cuStreamDestroy_v2(void *s) {
  if (need()) return INVALID_CONTEXT;
  if (!s || ((stream *)s)->magic != STREAM) return INVALID_HANDLE;
  ((stream *)s)->magic = 0;
  alive--;
  return OK;
}
EXPORT int cuEventCreate(void **e, unsigned flags) {
  if (need()) return INVALID_CONTEXT;
  if (!(flags & 1)) return INVALID_VALUE; /* must be a blocking-sync event */
  event *made = calloc(1, sizeof *made);
  made->magic = EVENT;
  *e = made;
  alive++;
  return OK;
}
EXPORT int cuEventDestroy_v2(void *e) {
  if (need()) return INVALID_CONTEXT;
  if (!e || ((event *)e)->magic != EVENT) return INVALID_HANDLE;
  ((event *)e)->magic = 0;
  alive--;
  return OK;
}
EXPORT int cuEventRecord(void *e, void *s) {
  if (need()) return INVALID_CONTEXT;
  return ((event *)e)->magic == EVENT && ((stream *)s)->magic == STREAM ? OK : INVALID_HANDLE;
}
EXPORT int cuEventSynchronize(void *e) { return ((event *)e)->magic == EVENT ? OK : INVALID_HANDLE; }
EXPORT int cuStreamBeginCapture_v2(void *s, int mode) {
  stream *c = s;
  if (need()) return INVALID_CONTEXT;
  if (c->magic != STREAM || c->capturing) return INVALID_HANDLE;
  if (mode != 1) return INVALID_VALUE; /* another thread's work must not break it */
  c->capturing = 1;
  memset(&c->recorded, 0, sizeof c->recorded);
  return OK;
}
EXPORT int cuStreamEndCapture(void *s, void **g) {
  stream *c = s;
  if (c->magic != STREAM || !c->capturing) return INVALID_HANDLE;
  if (getenv("STANDIN_NO_GRAPHS")) { c->capturing = 0; *g = NULL; return 901; }
  graph *made = malloc(sizeof *made);
  *made = c->recorded;
  c->capturing = 0;
  *g = made;
  alive++;
  return OK;
}
EXPORT int cuGraphInstantiateWithFlags(void **x, void *g, unsigned long long flags) {
  graph *from = g, *made = malloc(sizeof *made);
  if (!from || !from->count) { free(made); return INVALID_VALUE; }
  made->count = from->count;
  made->nodes = malloc(from->count * sizeof(node));
  memcpy(made->nodes, from->nodes, from->count * sizeof(node));
  *x = made;
  alive++;
  return OK;
}
static int drop(graph *g) { free(g->nodes); free(g); alive--; return OK; }
EXPORT int cuGraphDestroy(void *g) { return g ? drop(g) : INVALID_VALUE; }
EXPORT int cuGraphExecDestroy(void *x) { return need() ? INVALID_CONTEXT : drop(x); }
EXPORT int cuGraphLaunch(void *x, void *s) {
  if (need()) return INVALID_CONTEXT;
  if (((stream *)s)->magic != STREAM) return INVALID_HANDLE;
  for (int i = 0; i < ((graph *)x)->count; i++) perform(&((graph *)x)->nodes[i]);
  return OK;
}
EXPORT int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
  static const char *const endings[] = {"_v2", ""};
  char full[128];
  *found = NULL;
  for (int i = 0; i < 2 && !*found; i++) {
    snprintf(full, sizeof full, "%s%s", name, endings[i]);
    *found = dlsym(RTLD_DEFAULT, full);
    if (!*found) {
      void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
      if (self) *found = dlsym(self, full);
    }
  }
  if (status) *status = *found ? 0 : 1;
  return *found ? OK : NOT_FOUND;
}
EXPORT int cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, found, version, flags, NULL);
}
