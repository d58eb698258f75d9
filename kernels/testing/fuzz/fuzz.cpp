// fuzz [calls] [first seed]: random calls of the whole C ABI on the emulated library. Each must return a status, with a
// message where it fails; none may crash, hang, or touch memory outside its buffers (build it, and the library, with
// the address and undefined-behaviour sanitizers). What ends the program says the seed: `fuzz 1 SEED` makes it again.
#include <unistd.h>

#include <csignal>
#include <cstdarg>

#include "draw.h"

// What a sanitizer finds ends the program by a signal, so that the seed is said.
extern "C" __attribute__((visibility("default"), used)) const char* __asan_default_options() {
  return "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1";
}
extern "C" __attribute__((visibility("default"), used)) const char* __ubsan_default_options() {
  return "abort_on_error=1:print_stacktrace=1";
}

namespace fuzz {
namespace {

constexpr unsigned kSecondsPerCall = 60;

uint64_t seed = 0;
const char* name = "";

void say_seed() { fprintf(stderr, "fuzz: seed %llu, %s\n", static_cast<unsigned long long>(seed), name); }

void on_signal(int signal) {
  say_seed();
  fprintf(stderr, "fuzz: found signal %d%s\n", signal, signal == SIGALRM ? ": the call does not end" : "");
  _exit(1);
}

[[noreturn]] void fail(const char* what, long long found) {
  say_seed();
  fprintf(stderr, "fuzz: %s, found %lld\n", what, found);
  exit(1);
}

const Call& choose(Draw& draw) {
  const size_t counts[] = {kNumCommonCalls, kNumFilterCalls, kNumAttentionCalls};
  const Call* const calls[] = {kCommonCalls, kFilterCalls, kAttentionCalls};
  int64_t at = draw.below(static_cast<int64_t>(counts[0] + counts[1] + counts[2]));
  size_t group = 0;
  while (at >= static_cast<int64_t>(counts[group])) at -= static_cast<int64_t>(counts[group++]);
  return calls[group][at];
}

void check(tkf_context* context, int32_t status, const char* call) {
  if (status < TKF_STATUS_OK || status > TKF_STATUS_UNSUPPORTED) fail("expected a status", status);
  if (status == TKF_STATUS_OK || call[0] != 't') return;  // those that need no context have no message
  if (context != nullptr && tkf_context_message(context)[0] == '\0') fail("expected a message with a status", status);
}

int run(uint64_t calls, uint64_t first) {
  tkf_context* own = nullptr;
  if (tkf_abi_version() != TKF_ABI_VERSION || tkf_cuda_context_create(nullptr, &own) != TKF_STATUS_OK) return 1;
  uint64_t statuses[TKF_STATUS_UNSUPPORTED + 1] = {};
  for (seed = first; seed < first + calls; seed++) {
    Draw draw(seed);
    if (draw.once(3)) tkf_emulator_order(static_cast<int32_t>(draw.below(TKF_NUM_ORDERS)), draw.bits());
    tkf_context* const context = draw.once(50) ? nullptr : own;
    const Call& call = choose(draw);
    name = call.name;
    alarm(kSecondsPerCall);
    const int32_t status = call.run(draw, context);
    check(context, status, call.name);
    if (context == nullptr && call.name[0] == 't' && status != TKF_STATUS_NULL) {
      fail("expected status 1 without a context", status);
    }
    statuses[status]++;
    check(own, tkf_cuda_synchronize(own), "tkf_cuda_synchronize");
    const auto done = static_cast<unsigned long long>(seed - first + 1);
    if (done % 10000 == 0) printf("fuzz: %llu calls\n", done);
  }
  alarm(0);
  printf("fuzz: %llu calls, statuses", static_cast<unsigned long long>(calls));
  for (uint64_t count : statuses) printf(" %llu", static_cast<unsigned long long>(count));
  printf("\n");
  return tkf_context_destroy(own);
}

}  // namespace
}  // namespace fuzz

int main(int count, char** arguments) {
  for (int signal : {SIGALRM, SIGABRT}) std::signal(signal, fuzz::on_signal);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const uint64_t calls = count > 1 ? strtoull(arguments[1], nullptr, 10) : 100000;
  return fuzz::run(calls, count > 2 ? strtoull(arguments[2], nullptr, 10) : 1);
}
