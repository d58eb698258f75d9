// The order of execution: lanes of a warp, warps of a block, blocks of a launch; barriers; faults; what was reached.
#include "ptx.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <set>

namespace ptx {
namespace {

constexpr u64 kTurn = 20000;       // instructions of a warp in a loop before the others go on
constexpr int kIdleTurns = 20000;  // rounds of all warps in which none comes to a barrier or to its end

int first_error = 0;
std::string first_fault;
std::vector<Kernel*>& kernels() {
  static auto* const all = new std::vector<Kernel*>;  // read when the process ends
  return *all;
}
u64 random_state = 1;
u32 random_below(u32 count) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<u32>(random_state >> 33) % count;
}
std::string place_of(const Kernel& k, const Inst& i) {
  const auto file = [&](int number) {
    const auto found = k.module->files.find(number);
    if (found == k.module->files.end()) return std::string("?");
    const size_t slash = found->second.rfind('/'), folder = slash == 0 ? slash : found->second.rfind('/', slash - 1);
    return folder == std::string::npos ? found->second : found->second.substr(folder + 1);
  };
  std::string place = file(i.file) + ":" + std::to_string(i.line);
  if (i.outer_line != 0) place += " (in " + file(i.outer_file) + ":" + std::to_string(i.outer_line) + ")";
  return place + " " + op_name(i.op);
}

// ---- a warp ----

enum class Outcome { turn_ended, at_barrier, done, stuck, trapped };

void set_next(Warp& w) {
  w.next_pc = INT32_MAX;
  for (const Group& g : w.others) {
    if (!g.waits) w.next_pc = std::min(w.next_pc, g.pc);
  }
}
// The lanes at the lowest instruction go on; those that meet there, together.
void take_lowest(Warp& w) {
  set_next(w);
  w.active = 0;
  if (w.next_pc == INT32_MAX) return;
  w.pc = w.next_pc;
  const auto joins = [&](const Group& g) {
    const bool here = g.pc == w.pc && !g.waits;
    if (here) w.active |= g.lanes;
    return here;
  };
  w.others.erase(std::remove_if(w.others.begin(), w.others.end(), joins), w.others.end());
  set_next(w);
}
void set_aside(Warp& w, bool waits) {
  if (w.active != 0) w.others.push_back({w.pc, w.active, waits});
  take_lowest(w);
}
void wake(Warp& w) {
  for (Group& g : w.others) g.waits = false;
  set_next(w);
}
u32 guarded(Warp& w, const Inst& i, u32 lanes) {
  if (i.guard == kNone) return lanes;
  const u32 p = predicate(w, i.guard);
  return lanes & (i.guard_not ? ~p : p);
}
// All other lanes of the warp that stand here too, and may execute the instruction, join.
void gather(Warp& w, const Inst& i) {
  const auto joins = [&](const Group& g) {
    if (g.pc != w.pc || (!g.waits && guarded(w, i, g.lanes) != g.lanes)) return false;
    w.active |= g.lanes;
    return true;
  };
  w.others.erase(std::remove_if(w.others.begin(), w.others.end(), joins), w.others.end());
}
// An instruction at which lanes meet. False where none of the warp can go on.
bool meet(Warp& w, const Inst& i, u32 lanes, Outcome& outcome) {
  const u32 rest = w.active & ~lanes;
  if (rest != 0) w.others.push_back({w.pc + 1, rest, false});
  w.active = lanes;
  gather(w, i);
  if (i.flow == Flow::masked) {
    const u32* const members = slots<u32>(w, i.members);
    const u32 mask = members[first_lane(w.active)];
    u32 same = 0;
    each_lane(w.active, [&](u32 l) { same |= static_cast<u32>(members[l] == mask) << l; });
    if (same != w.active) w.others.push_back({w.pc, w.active & ~same, true});
    w.active = same;
    if ((same & ~mask) != 0) fault_at(w, i, "mask", "lanes %#x execute it for the lanes %#x", same, mask);
    if ((mask & w.live & ~same) != 0) {
      set_aside(w, true);
    } else {
      if (i.run != nullptr) i.run(w, i, same);
      w.meeting++;
      if (i.flag) w.ordered = w.meeting;  // bar.warp.sync orders memory
      w.pc++;
      wake(w);
    }
  } else if (w.active != w.live) {
    set_aside(w, true);
  } else if (i.flow == Flow::whole) {
    if (w.active != kAll) fault_at(w, i, "divergence", "lanes %#x alone execute it", w.active);
    i.run(w, i, w.active);
    w.meeting++;
    w.pc++;
  } else {
    const u32 l = first_lane(w.active);
    w.barrier = slots<u32>(w, i.a)[l];
    w.barrier_threads = i.b == kNone ? 0 : slots<u32>(w, i.b)[l];
    w.barrier_lanes = w.active;
    w.barrier_at = &i;
    w.pc++;
    set_next(w);
    outcome = Outcome::at_barrier;
    return false;
  }
  if (w.active == 0) outcome = Outcome::stuck;
  return w.active != 0;
}
Outcome run_warp(Warp& w) {
  const Inst* const code = w.kernel->code.data();
  u8* const reached = w.kernel->reached.data();
  u64 done = 0;
  struct Count {
    Warp& w;
    u64& done;
    ~Count() { w.instructions += done; }
  } count{w, done};
  for (;;) {
    if (w.active == 0) return w.live == 0 ? Outcome::done : Outcome::stuck;
    const Inst& i = code[w.pc];
    const u32 lanes = guarded(w, i, w.active);
    done++;
    reached[w.pc] |= lanes != 0;
    switch (i.flow) {
      case Flow::next:
        if (lanes != 0) i.run(w, i, lanes);
        w.pc++;
        break;
      case Flow::poll:
        if (lanes != 0) i.run(w, i, lanes);
        w.pc++;
        if (done > kTurn || (lanes & ~predicate(w, i.p)) != 0) {
          if (w.pc >= w.next_pc) set_aside(w, false);
          return Outcome::turn_ended;
        }
        break;
      case Flow::branch: {
        const u32 stays = w.active & ~lanes;
        if (stays == 0) {
          w.pc = i.target;
        } else if (lanes == 0) {
          w.pc++;
        } else {
          w.others.push_back({i.target, lanes, false});
          w.active = stays;
          w.pc++;
          set_aside(w, false);
        }
        if (done > kTurn) {
          if (w.pc >= w.next_pc) set_aside(w, false);
          return Outcome::turn_ended;
        }
        break;
      }
      case Flow::exit:
        w.live &= ~lanes;
        w.active &= ~lanes;
        w.pc++;
        for (const Copy& copy : w.copies) {
          if (lanes >> copy.lane & 1) fault_at(w, i, "async", "lane %u ends with a cp.async under way", copy.lane);
        }
        wake(w);
        if (w.active == 0) take_lowest(w);
        break;
      case Flow::trap:
        if (lanes != 0) {
          fault_at(w, i, "trap", "lanes %#x reach it", lanes);
          return Outcome::trapped;
        }
        w.pc++;
        break;
      default: {
        Outcome outcome;
        if (lanes == 0) {
          w.pc++;
        } else if (!meet(w, i, lanes, outcome)) {
          return outcome;
        }
      }
    }
    if (w.pc >= w.next_pc) set_aside(w, false);
  }
}

// ---- a block ----

std::string waiting(const Block& b) {
  std::string text;
  for (const Warp& w : b.warps) {
    if (w.state == State::done || text.size() > 1000) continue;
    text += " warp " + std::to_string(w.id) + ":";
    if (w.state == State::at_barrier) text += " barrier " + std::to_string(w.barrier) + ", " + place_of(*w.kernel, *w.barrier_at);
    if (w.state == State::runs && w.active != 0) text += " at " + place_of(*w.kernel, w.kernel->code[w.pc]);
    for (const Group& g : w.others) {
      char lanes[40];
      snprintf(lanes, sizeof lanes, " lanes %#x at ", g.lanes);
      text += lanes + place_of(*w.kernel, w.kernel->code[g.pc]) + ";";
    }
  }
  return text;
}
// Lets warps go on at which all that a barrier expects have come. Whether any did.
bool open_barriers(Block& b) {
  bool opened = false;
  for (u32 id = 0; id < 16; id++) {
    std::vector<Warp*> here;
    u32 threads = 0, live = 0;
    for (Warp& w : b.warps) {
      if (w.state != State::done) live += count_lanes(w.first);
      if (w.state != State::at_barrier || w.barrier != id) continue;
      here.push_back(&w);
      threads += count_lanes(w.first);
    }
    if (here.empty()) continue;
    const Warp& first = *here[0];
    const u32 expected = first.barrier_threads == 0 ? live : first.barrier_threads;
    for (const Warp* w : here) {
      if (w->barrier_threads != first.barrier_threads) {
        fault_at(*w, *w->barrier_at, "barrier", "warps name %u and %u threads", first.barrier_threads, w->barrier_threads);
      }
    }
    if (threads < expected) continue;
    if (threads > expected) fault_at(first, *first.barrier_at, "barrier", "%u threads come, expected %u", threads, expected);
    std::array<u32, 32> clock{};
    bool all = true;
    for (Warp* w : here) {
      for (int j = 0; j < 32; j++) clock[j] = std::max(clock[j], w->clock[j]);
      if (w->barrier_at != first.barrier_at) {
        fault_at(*w, *w->barrier_at, "barrier", "warps meet at different ones: the other is %s",
                 place_of(*b.kernel, *first.barrier_at).c_str());
      }
      if (w->barrier_at->flow != Flow::reduce) continue;
      all = all && (~operand_predicate(*w, *w->barrier_at) & w->barrier_lanes) == 0;
    }
    for (Warp* w : here) {
      w->clock = clock;
      w->clock[w->id]++;
      w->ordered = ++w->meeting;
      w->state = State::runs;
      const Inst& i = *w->barrier_at;
      if (i.flow == Flow::reduce) set_predicate(*w, i.p, all ? kAll : 0, w->barrier_lanes);
    }
    opened = true;
  }
  return opened;
}
u64 preset_value(const Preset& p, const Block& b, const Warp& w, u32 lane) {
  const u32 thread = 32 * w.id + lane, before = (1u << lane) - 1;
  switch (p.value) {
    case Value::number: return p.number;
    case Value::dynamic_shared: return b.kernel->dynamic_at() + p.number;
    case Value::param: return reinterpret_cast<u64>(b.params) + p.number;
    case Value::tid_x: return thread % b.size.x;
    case Value::tid_y: return thread / b.size.x % b.size.y;
    case Value::tid_z: return thread / (b.size.x * b.size.y);
    case Value::ntid_x: return b.size.x;
    case Value::ntid_y: return b.size.y;
    case Value::ntid_z: return b.size.z;
    case Value::ctaid_x: return b.at.x;
    case Value::ctaid_y: return b.at.y;
    case Value::ctaid_z: return b.at.z;
    case Value::nctaid_x: return b.grid.x;
    case Value::nctaid_y: return b.grid.y;
    case Value::nctaid_z: return b.grid.z;
    case Value::lane: return lane;
    case Value::warp: return w.id;
    case Value::warps: return b.num_warps;
    case Value::mask_lt: return before;
    case Value::mask_le: return before | 1u << lane;
    case Value::mask_gt: return ~(before | 1u << lane);
    case Value::mask_ge: return ~before;
    default: return 1u << lane;
  }
}
struct Registers {
  u8* at = nullptr;
  const Kernel* kernel = nullptr;  // whose numbers they hold
  size_t bytes = 0;
};
void start_warp(Warp& w, Block& b, u32 id, Registers& file) {
  const Kernel& k = *b.kernel;
  const u32 threads = b.size.x * b.size.y * b.size.z, left = threads - 32 * id;
  if (file.bytes < k.register_bytes) {
    free(file.at);
    file.at = static_cast<u8*>(aligned_alloc(4096, k.register_bytes));
    file.bytes = k.register_bytes;
    file.kernel = nullptr;
  }
  const bool fresh = file.kernel != &k;
  if (fresh) memset(file.at, 0xcd, k.register_bytes);
  file.kernel = &k;
  w = Warp();
  w.registers = file.at;
  w.block = &b;
  w.kernel = b.kernel;
  w.id = id;
  w.first = w.live = w.active = left >= 32 ? kAll : (1u << left) - 1;
  w.next_pc = INT32_MAX;
  w.clock[id] = 1;
  for (const Preset& p : k.presets) {
    if (p.value == Value::number && !fresh) continue;
    if (p.bytes == 0) predicate(w, p.at) = static_cast<u32>(p.number);
    for (u32 l = 0; l < 32 && p.bytes != 0; l++) {
      const u64 value = preset_value(p, b, w, l);
      memcpy(file.at + p.at + p.bytes * l, &value, p.bytes);  // little endian
    }
  }
}
// False where the block did not come to its end.
bool run_block(Block& b) {
  static std::array<Registers, 32> files;
  static u32 stamps = 0;
  b.stamp = ++stamps;
  b.shared = file_of_shared();
  memset(b.shared, 0xff, b.shared_end);
  b.warps.resize(b.num_warps);
  for (u32 id = 0; id < b.num_warps; id++) start_warp(b.warps[id], b, id, files[id]);
  begin_block();
  begin_hopper();
  std::vector<u32> order(b.num_warps);
  for (u32 j = 0; j < b.num_warps; j++) order[j] = options().order == 1 ? b.num_warps - 1 - j : j;
  for (int idle = 0; idle < kIdleTurns;) {
    for (u32 j = b.num_warps; options().order == 2 && j > 1; j--) std::swap(order[j - 1], order[random_below(j)]);
    bool further = false, turned = false;
    for (const u32 id : order) {
      Warp& w = b.warps[id];
      if (w.state != State::runs) continue;
      switch (run_warp(w)) {
        case Outcome::turn_ended:
          turned = true;
          continue;
        case Outcome::trapped: return false;
        case Outcome::at_barrier: w.state = State::at_barrier; break;
        case Outcome::done: w.state = State::done; break;
        case Outcome::stuck:
          fault_at(w, b.kernel->code[w.others[0].pc], "divergence", "lanes wait for others that do not come:%s", waiting(b).c_str());
          return false;
      }
      further = true;
    }
    const bool is_over = std::all_of(b.warps.begin(), b.warps.end(), [](const Warp& w) { return w.state == State::done; });
    if (is_over) {
      end_hopper(b);
      return true;
    }
    further = open_barriers(b) || further;
    idle = further ? 0 : idle + 1;
    if (further || turned) continue;
    for (const Warp& w : b.warps) {
      if (w.state != State::at_barrier) continue;
      fault_at(w, *w.barrier_at, "barrier", "not all threads reach it:%s", waiting(b).c_str());
      return false;
    }
  }
  const Warp& w = *std::find_if(b.warps.begin(), b.warps.end(), [](const Warp& each) { return each.state != State::done; });
  fault_at(w, b.kernel->code[w.pc], "deadlock", "all wait:%s", waiting(b).c_str());
  return false;
}

}  // namespace

u8* file_of_shared() {
  static u8* const at = static_cast<u8*>(
      mmap(nullptr, 1 << 19, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  return at;
}

void fault(const char* kind, const std::string& text) {
  static std::set<std::string> told;
  const std::string line = std::string(kind) + ": " + text;
  if (first_error == 0) {
    first_error = strcmp(kind, "outside") == 0 ? 700 : strcmp(kind, "misaligned") == 0 ? 716 : 719;
    first_fault = line;
  }
  if (told.size() < 200 && told.insert(line).second) fprintf(stderr, "ptx: %s\n", line.c_str());
}
void fault_at(const Warp& w, const Inst& i, const char* kind, const char* format, ...) {
  static std::set<std::pair<const Inst*, std::string>> told;  // each once an instruction
  if (!told.insert({&i, kind}).second && first_error != 0) return;
  char text[1500];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  const Block& b = *w.block;
  char where[200];
  snprintf(where, sizeof where, " [block %u,%u,%u of %ux%ux%u, PTX line %d of ", b.at.x, b.at.y, b.at.z, b.grid.x, b.grid.y,
           b.grid.z, i.text_line);
  fault(kind, place_of(*w.kernel, i) + ": " + text + where + w.kernel->name + "]");
}
int error_code() { return first_error; }
const char* error_text() { return first_fault.c_str(); }

Options& options() {
  static Options all = [] {
    const auto read = [](const char* name, u64 otherwise) {
      const char* const text = getenv(name);
      return text == nullptr || *text == 0 ? otherwise : strtoull(text, nullptr, 10);
    };
    Options o;
    o.arch = static_cast<int>(read("TKF_PTX_ARCH", 80));
    o.sms = static_cast<int>(read("TKF_PTX_SMS", o.arch >= 90 ? 132 : 108));
    o.memory = read("TKF_PTX_MEMORY_MIB", 4096) << 20;
    o.order = static_cast<int>(read("TKF_PTX_ORDER", 0));
    o.seed = random_state = read("TKF_PTX_SEED", 1);
    o.noise = static_cast<u32>(read("TKF_PTX_NOISE", 0));
    o.sums = static_cast<int>(read("TKF_PTX_SUMS", o.arch >= 90 ? 16 : 8));
    return o;
  }();
  return all;
}

void launch(Kernel& k, Dim grid, Dim size, const std::vector<u8>& params, u32 shared_bytes) {
  if (first_error != 0) return;  // as on a device: nothing runs after a fault
  k.launches++;
  num_launches++;
  begin_launch();
  Block b{};
  b.kernel = &k;
  b.grid = grid;
  b.size = size;
  b.num_warps = (size.x * size.y * size.z + 31) / 32;
  b.shared_end = shared_bytes == 0 ? kSharedAt + k.static_shared : k.dynamic_at() + shared_bytes;
  for (u32 granule = std::min(k.granule, 4u); granule < 4; granule *= 2) b.granule_log--;
  alignas(128) static u8 arguments[8192];
  memcpy(arguments, params.data(), params.size());
  b.params = arguments;
  const u64 blocks = static_cast<u64>(grid.x) * grid.y * grid.z;
  const u64 first = options().order == 2 ? random_below(static_cast<u32>(std::min<u64>(blocks, 1u << 30))) : 0;
  for (u64 n = 0; n < blocks; n++) {
    const u64 at = options().order == 1 ? blocks - 1 - n : (n + first) % blocks;
    b.at = {static_cast<u32>(at % grid.x), static_cast<u32>(at / grid.x % grid.y), static_cast<u32>(at / grid.x / grid.y)};
    b.index = static_cast<u32>(std::min<u64>(at, kBlockMask - 2));
    const bool ended = run_block(b);
    for (const Warp& w : b.warps) k.instructions += w.instructions;
    if (!ended || first_error != 0) return;
  }
}

void know(Kernel& kernel) { kernels().push_back(&kernel); }

// TKF_PTX_COVERAGE: a folder that gets, per process, a line for each kernel: architecture, name, launches, warp
// instructions, and for each instruction "+" where it was executed and "-" where not; none where nothing asked for it.
void write_coverage() {
  const char* const folder = getenv("TKF_PTX_COVERAGE");
  if (folder == nullptr || *folder == 0) return;
  if (std::none_of(kernels().begin(), kernels().end(), [](const Kernel* k) { return k->launches > 0; })) return;
  FILE* const out = fopen((std::string(folder) + "/" + std::to_string(getpid()) + ".txt").c_str(), "w");
  if (out == nullptr) return;
  for (const Kernel* k : kernels()) {
    fprintf(out, "%s %s %llu %llu ", k->module->target.c_str(), k->name.c_str(), static_cast<unsigned long long>(k->launches),
            static_cast<unsigned long long>(k->instructions));
    for (const u8 reached : k->reached) fputc(reached != 0 ? '+' : '-', out);
    fputc('\n', out);
  }
  fclose(out);
}

}  // namespace ptx
