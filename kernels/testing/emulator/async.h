// What runs beside the threads of a block: copies by TMA, and products by wgmma. Both see dynamic shared memory as it
// was at the last barrier after a fence_async; they run as late as the PTX manual allows.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hopper.h"

namespace tkf::simt {

constexpr unsigned kGroup = 128;  // threads of a warpgroup
// Where dynamic shared memory begins in the window of shared memory: behind what the system keeps, and not where a
// pattern of a swizzle begins.
constexpr uint32_t kDynamicAddress = 1024 + 128;

// Something that threads wait for.
struct Event {
  virtual ~Event() = default;
  virtual std::string state() const = 0;  // for the line that says who waits where
};

struct BoxCopy {
  TensorMap map;
  uint32_t to;  // address in the window of shared memory
  int at[3];    // column, head, row
};

struct Mbarrier : Event {
  const uint64_t* object = nullptr;
  uint32_t expected = 0, pending = 0;  // arrivals
  int64_t bytes = 0;                   // announced, and not of a copy that was issued
  uint64_t phase = 0;
  bool observed = true;  // a thread has waited for the phase before this one
  bool shown = false;    // to TMA, by a fence_async
  unsigned waiting = 0;
  std::vector<BoxCopy> copies;  // of this phase
  // All is there, or would be by now: copies are done when a thread waits for them.
  bool complete() const { return pending == 0 && bytes == 0; }
  std::string state() const override;
};

// One wgmma.mma_async of a warpgroup.
struct Product {
  ProductShape shape;
  uint64_t a, b;  // descriptors; a: 0 where its fragments are in registers
  unsigned sums;  // number of the accumulators
  bool add;
  uint32_t fragments[kGroup][4];
};

// Accumulators [64, columns] on which products are under way, and how many threads have not taken them back.
struct Sums {
  int columns;
  unsigned left;
  std::vector<float> values;
};

struct Warpgroup : Event {
  struct Held {  // a thread's accumulators, NaN while products are under way
    float* d;
    unsigned sums;
    uint64_t last;  // product
  };
  struct Member {
    bool fenced = false;
    uint64_t issued = 0, commits = 0;
    unsigned num_sums = 0;
    std::vector<Held> held;
  };
  struct Commit {
    uint64_t end;  // of its products
    unsigned threads;
  };
  Member members[kGroup];
  std::deque<Product> products;  // from number `done` on
  uint64_t done = 0;
  std::vector<Commit> commits;
  std::map<unsigned, Sums> sums;
  std::string state() const override;
};

class Async {
 public:
  void begin_block(void* dynamic, size_t bytes);
  void end_thread(unsigned thread);
  void end_block();
  uint32_t address_of(const void* shared) const;  // in the window of shared memory
  void fence();
  // At a barrier: what was written before a fence is seen from now on.
  void publish();

  void start(uint64_t* object, int arrivals);
  void arrive(const char* name, uint64_t* object, uint32_t bytes);
  void wait(uint64_t* object, uint32_t parity, Place place);
  void load(void* shared, const CUtensorMap* map, const int (&at)[3], uint64_t* object);

  void issue(ProductShape shape, float* d, const uint32_t* fragments, uint64_t a, uint64_t b, bool add);
  void fence_products();
  void commit();
  void wait_products(Place place);

  uint64_t num_products() const { return num_products_; }  // of all launches

  // 16 bytes at an address of the window as products see them: NaN where a write has had no fence.
  void read(uint32_t address, uint16_t (&values)[8]);

 private:
  Mbarrier& find(const char* name, const uint64_t* object);
  void settle(Mbarrier& barrier);
  void advance(Mbarrier& barrier);
  void land(const BoxCopy& copy);
  size_t offset_of(const char* name, uint32_t address, size_t bytes) const;
  Warpgroup& own_group();
  void check_matrix(uint64_t descriptor, bool columns_first, int columns);
  void run_products(Warpgroup& group, uint64_t end);
  unsigned char* view();

  unsigned char* memory_ = nullptr;
  size_t bytes_ = 0;
  std::vector<unsigned char> view_;
  bool viewed_ = false, fenced_ = false;
  uint64_t num_products_ = 0;
  std::vector<std::unique_ptr<Mbarrier>> barriers_;
  std::map<unsigned, std::unique_ptr<Warpgroup>> groups_;
};

}  // namespace tkf::simt
