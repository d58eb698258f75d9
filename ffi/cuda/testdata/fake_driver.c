/* A stand-in for libcuda.so.1: "device" memory on the heap, work done at once, and a record of what was asked. Its
 * behaviour is set by fake_set(), else by environment variables, when cuInit is called:
 *   FAKE_VERSION (13000)  FAKE_DEVICES (1)  FAKE_ARCH (90)  FAKE_MEMORY (bytes, 1 GiB)  FAKE_INIT (result of cuInit)
 *   FAKE_ALLOC (result of cuMemAlloc)  FAKE_CLEAR (result of cuMemsetD8Async)  FAKE_STREAM (result of cuStreamCreate)
 *   FAKE_MODE (compute mode, 0)
 *   FAKE_TABLES (whether the device uses the host's page tables, 0) */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Pointer;

static int version, devices, arch, mode, tables, init_result, alloc_result, clear_result, stream_result;
static int capturing, broken, live, waits;
static int events, streams, contexts, misuses;
static void* current;
static uint64_t memory, used;
static double clock_ms;

static struct {
  char name[16];
  int64_t value;
} settings[16];

void fake_set(const char* name, int64_t value) {
  int i = 0;
  while (settings[i].name[0] != 0 && strcmp(settings[i].name, name) != 0) i++;
  snprintf(settings[i].name, sizeof settings[i].name, "%s", name);
  settings[i].value = value;
}

static long setting(const char* name, long fallback) {
  for (int i = 0; settings[i].name[0] != 0; i++) {
    if (strcmp(settings[i].name, name) == 0) return settings[i].value;
  }
  const char* text = getenv(name);
  return text == NULL ? fallback : atol(text);
}

Result cuInit(unsigned flags) {
  (void)flags;
  version = (int)setting("FAKE_VERSION", 13000);
  devices = (int)setting("FAKE_DEVICES", 1);
  arch = (int)setting("FAKE_ARCH", 90);
  mode = (int)setting("FAKE_MODE", 0);
  tables = (int)setting("FAKE_TABLES", 0);
  memory = (uint64_t)setting("FAKE_MEMORY", 1 << 30);
  init_result = (int)setting("FAKE_INIT", 0);
  alloc_result = (int)setting("FAKE_ALLOC", 0);
  clear_result = (int)setting("FAKE_CLEAR", 0);
  stream_result = (int)setting("FAKE_STREAM", 0);
  return init_result;
}
Result cuDriverGetVersion(int* out) { return *out = version, 0; }
Result cuGetErrorName(Result code, const char** out) {
  *out = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 999 ? "CUDA_ERROR_UNKNOWN" : NULL;
  if (code == 901) *out = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
  return *out == NULL;
}
Result cuGetErrorString(Result code, const char** out) { return *out = "so says the stand-in", code < 0; }
Result cuDeviceGetCount(int* out) { return *out = devices, 0; }
/* Handles of devices are not their ordinals. */
enum { HANDLE = 100 };
Result cuDeviceGet(int* out, int ordinal) { return *out = ordinal + HANDLE, 0; }
Result cuDeviceGetName(char* out, int size, int device) {
  return snprintf(out, (size_t)size, "Stand-in %d", device - HANDLE) < 0;
}
Result cuDeviceGetPCIBusId(char* out, int size, int device) {
  return snprintf(out, (size_t)size, "0000:0%d:00.0", device - HANDLE) < 0;
}
Result cuDeviceGetAttribute(int* out, int attribute, int device) {
  (void)device;
  switch (attribute) {
    case 16: return *out = 132, 0;
    case 13: return *out = 1980000, 0;
    case 20: return *out = mode, 0;
    case 38: return *out = 50 << 20, 0;
    case 75: return *out = arch / 10, 0;
    case 76: return *out = arch % 10, 0;
    case 100: return *out = tables, 0;
  }
  return 1;
}
Result cuDeviceTotalMem_v2(uint64_t* out, int device) { return *out = memory, device < HANDLE; }
Result cuDevicePrimaryCtxRetain(void** out, int device) { return *out = &memory, contexts++, device < HANDLE; }
/* The last release destroys the context: nobody may need it, nor have it current. */
Result cuDevicePrimaryCtxRelease_v2(int device) {
  contexts--;
  if (contexts < 0 || (contexts == 0 && (live > 0 || events > 0 || streams > 0 || current != NULL))) misuses++;
  return device < HANDLE;
}
Result cuCtxSetCurrent(void* context) { return current = context, context != NULL && context != &memory; }
Result cuMemGetInfo_v2(uint64_t* free_bytes, uint64_t* total) {
  return *free_bytes = memory - used, *total = memory, 0;
}
/* Memory remembers its size before its first byte. Fresh memory is full of 0xAA. */
Result cuMemAlloc_v2(Pointer* out, uint64_t bytes) {
  if (capturing) broken = 1;
  if (alloc_result != 0) return alloc_result;
  if (used + bytes > memory) return 2;
  char* block = malloc(bytes + 64);
  memcpy(block, &bytes, 8);
  memset(block + 64, 0xAA, bytes);
  used += bytes;
  live++;
  *out = (Pointer)(uintptr_t)(block + 64);
  return 0;
}
Result cuMemFree_v2(Pointer address) {
  if (current == NULL) return misuses++, 201;
  if (capturing) return broken = 1, 900;
  char* block = (char*)(uintptr_t)address - 64;
  uint64_t bytes;
  memcpy(&bytes, block, 8);
  used -= bytes;
  live--;
  free(block);
  return 0;
}
/* Copies and fills inside a capture are recorded: one of each is enough here. */
static struct { void* to; int value; uint64_t bytes; int there; } recorded;
static void* at(Pointer address) { return (void*)(uintptr_t)address; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, uint64_t bytes, void* stream) {
  (void)stream;
  return memcpy(at(to), from, bytes), 0;
}
Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, uint64_t bytes, void* stream) {
  (void)stream;
  return memcpy(to, at(from), bytes), 0;
}
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, uint64_t bytes, void* stream) {
  (void)stream;
  return memmove(at(to), at(from), bytes), 0;
}
Result cuMemsetD8Async(Pointer to, uint8_t value, uint64_t bytes, void* stream) {
  (void)stream;
  if (clear_result != 0) return clear_result;
  if (capturing) {
    recorded.to = at(to), recorded.value = value, recorded.bytes = bytes, recorded.there = 1;
    return 0;
  }
  return memset(at(to), value, bytes), 0;
}
Result cuStreamCreate(void** out, unsigned flags) {
  if (stream_result != 0) return stream_result;
  return *out = &used, streams++, flags != 1;
}
Result cuStreamDestroy_v2(void* stream) {
  if (current == NULL || streams == 0) misuses++;
  return streams--, stream != &used;
}
Result cuStreamSynchronize(void* stream) {
  if (streams == 0) return misuses++, 400;
  if (capturing) return broken = 1, 900;
  waits++;
  return stream != &used;
}
Result cuStreamBeginCapture_v2(void* stream, int mode) {
  capturing = 1, broken = 0, recorded.there = 0;
  return stream != &used || mode != 1;
}
Result cuStreamEndCapture(void* stream, void** out) {
  capturing = 0;
  live += !broken;
  *out = broken ? NULL : &recorded;
  return broken ? 901 : stream != &used;
}
Result cuGraphInstantiateWithFlags(void** out, void* graph, uint64_t flags) {
  return live++, *out = graph, flags != 0;
}
Result cuGraphLaunch(void* graph, void* stream) {
  (void)stream;
  return recorded.there ? (memset(recorded.to, recorded.value, recorded.bytes), 0) : graph != &recorded;
}
Result cuGraphExecDestroy(void* graph) { return live--, graph != &recorded; }
Result cuGraphDestroy(void* graph) { return live--, graph == NULL; }
Result cuEventCreate(void** out, unsigned flags) {
  double* event = malloc(sizeof(double));
  return *out = event, *event = -1, events++, (Result)flags;
}
Result cuEventRecord(double* event, void* stream) { return *event = (clock_ms += 2.5), stream != &used; }
Result cuEventSynchronize(double* event) { return *event < 0; }
Result cuEventElapsedTime(float* out, double* from, double* to) { return *out = (float)(*to - *from), 0; }
Result cuEventDestroy_v2(void* event) {
  if (current == NULL) misuses++;
  return free(event), events--, 0;
}
/* For the test alone: pieces of memory and graphs that were not given back. */
int fake_live(void) { return live; }
/* Events, streams and contexts that were not given back. */
int fake_events(void) { return events; }
int fake_streams(void) { return streams; }
int fake_contexts(void) { return contexts; }
/* And what was given back twice, too late, or used after it was given back. */
int fake_misuses(void) { return misuses; }
/* And how often somebody waited for the stream. */
int fake_waits(void) { return waits; }
