// SPDX-License-Identifier: MIT
// Code and constants by a name that another process of the same build understands, wherever the
// loader has put them there.
//
//     CodePlace place = place_of(&entry);                                             // here
//     address_of(place, sizeof(Entry), alignof(Entry), SegmentUse::data);            // there
//
// A program or library is known by its build id, which linkers derive from what they have linked
// (--build-id: the default of most distributions). One that has none is known by its code and
// constants as they lie in memory; that takes some milliseconds once for each 10 MiB of it, and
// tells it from itself where a debugger has put a breakpoint into one of the two processes.
#pragma once

#include <limits.h>
#include <link.h>
#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "immortal.hpp"
#include "mutex.hpp"

namespace brood::posix {

/// Where something lies: in which build of a program or library, and where in that.
struct CodePlace {
  std::uint64_t module;  // a hash of its build id; never 0
  std::uint64_t offset;  // bytes from where the loader has put it
  bool operator==(const CodePlace&) const = default;
};

/// What the bytes at an address are for.
enum class SegmentUse { code, data };

/// The name of what lies at `address`, in some program or library that is loaded here. Throws
/// std::invalid_argument when that is not so. Blocks while a library is being loaded. May be called
/// from several threads, but not with a lock held that a fork takes.
CodePlace place_of(const void* address);

/// Where it lies here. Null when that module is not loaded here, when no segment of it holds `size`
/// bytes there (executable ones, if it is code), or when these are not aligned: so `place` may come
/// from anywhere. Of several copies of a module the loader's first is meant. Blocks and may be
/// called as place_of().
const void* address_of(CodePlace place, std::size_t size, std::size_t alignment,
                       SegmentUse use) noexcept;

/// Whether the module of a place is loaded here.
bool is_loaded(std::uint64_t module) noexcept;

/// The absolute path of the program's or library's file in which `address` lies, for messages and
/// for load_module() (load_module.hpp). Empty when there is none. Throws std::bad_alloc.
std::string module_path(const void* address);

// ---------------------------------------------------------------------------------------------

/// A range of addresses.
struct Extent {
  std::uintptr_t begin = 0;
  std::size_t size = 0;

  bool holds(std::uintptr_t address, std::size_t bytes) const noexcept {
    const std::uintptr_t from = address - begin;  // huge, if it lies before
    return from < size && bytes <= size - from;
  }
};

/// One program or library in this process, as the loader tells it. Another thread may unload a
/// library at any time: but for id and base, it is to be asked in dl_iterate_phdr(3) alone.
struct LoadedModule {
  std::uint64_t id = 0;  // 0: there is none, or nobody has asked yet
  std::uintptr_t base = 0;
  const ElfW(Phdr) * headers = nullptr;
  std::size_t count = 0;

  LoadedModule() noexcept = default;
  explicit LoadedModule(const dl_phdr_info& info) noexcept
      : base{info.dlpi_addr}, headers{info.dlpi_phdr}, count{info.dlpi_phnum} {}

  /// Whether one segment with all of `flags` (PF_R, PF_X) holds `size` bytes from `address` on.
  bool holds(std::uintptr_t address, std::size_t size, ElfW(Word) flags) const noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      const auto& segment = headers[i];
      if (segment.p_type == PT_LOAD && (segment.p_flags & flags) == flags &&
          Extent{base + segment.p_vaddr, segment.p_memsz}.holds(address, size))
        return true;
    }
    return false;
  }

  /// Its first segment of code, most often the only one.
  Extent code() const noexcept {
    for (std::size_t i = 0; i < count; ++i)
      if (headers[i].p_type == PT_LOAD && (headers[i].p_flags & PF_X) != 0)
        return {base + headers[i].p_vaddr, headers[i].p_memsz};
    return {};
  }

  /// Where its first segment lies.
  std::uintptr_t begin() const noexcept {
    std::size_t i = 0;
    while (i < count && headers[i].p_type != PT_LOAD) ++i;
    return i < count ? base + headers[i].p_vaddr : 0;
  }

  std::uint64_t find_id() const noexcept {
    for (std::size_t i = 0; i < count; ++i)
      if (headers[i].p_type == PT_NOTE)
        if (const std::uint64_t found = find_build_id(headers[i])) return found;
    std::uint64_t hash = count;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& segment = headers[i];
      if (segment.p_type == PT_LOAD && (segment.p_flags & (PF_R | PF_W)) == PF_R)
        hash = mix(hash, reinterpret_cast<const char*>(base + segment.p_vaddr), segment.p_filesz);
    }
    return hash | 1;
  }

 private:
  // A note is three 32-bit words (sizes of name and contents, type), a name and the contents, both
  // padded (elf(5)).
  std::uint64_t find_build_id(const ElfW(Phdr) & notes) const noexcept {
    const std::uintptr_t begin = base + notes.p_vaddr;
    if (!holds(begin, notes.p_memsz, PF_R)) return 0;
    const char* at = reinterpret_cast<const char*>(begin);
    const std::size_t padding = notes.p_align == 8 ? 8 : 4;
    for (std::size_t left = notes.p_memsz; left >= sizeof(ElfW(Nhdr));) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const std::size_t name = (std::size_t{note.n_namesz} + padding - 1) / padding * padding;
      const std::size_t contents = (std::size_t{note.n_descsz} + padding - 1) / padding * padding;
      if (name > left - sizeof note || note.n_descsz > left - sizeof note - name) return 0;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz != 0 &&
          std::memcmp(at + sizeof note, "GNU", 4) == 0)
        return mix(note.n_descsz, at + sizeof note + name, note.n_descsz) | 1;
      const std::size_t size = sizeof note + name + contents;
      if (size > left) return 0;
      at += size;
      left -= size;
    }
    return 0;
  }

  // In aligned words, as far as they go; what is left of them byte by byte. (AddressSanitizer takes
  // the gaps that it leaves between constants for out of bounds.)
  [[gnu::no_sanitize_address]] static std::uint64_t mix(std::uint64_t hash, const char* bytes,
                                                        std::size_t size) noexcept {
    using Word [[gnu::may_alias]] = std::uint64_t;
    const char* const end = bytes + size;
    const auto add = [&hash](std::uint64_t word) {
      hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    };
    while (bytes != end && reinterpret_cast<std::uintptr_t>(bytes) % sizeof(Word) != 0)
      add(static_cast<unsigned char>(*bytes++));
    for (; static_cast<std::size_t>(end - bytes) >= sizeof(Word); bytes += sizeof(Word))
      add(*reinterpret_cast<const Word*>(bytes));
    while (bytes != end) add(static_cast<unsigned char>(*bytes++));
    return hash;
  }
};

/// What the loader says, and what was found out about it.
///
/// The program itself stays where it is: it is asked about without a lock. All else is asked under
/// the loader's lock, in dl_iterate_phdr(3): nothing is unloaded meanwhile. What was found out
/// holds until something is unloaded, which the loader counts. A fork leaves the loader's lock held
/// in the child if another thread holds it at that moment, so a fork waits for those that ask here.
class LoadedModules {
 public:
  static LoadedModules& here() noexcept { return immortal<LoadedModules>(); }

  /// What was found of a module. It was there when it was looked for.
  struct Found {
    std::uint64_t id = 0;  // 0: there is none
    std::uintptr_t base = 0;
    std::uintptr_t begin = 0;  // of its first segment
    bool has_place = false;    // that was asked for
  };

  /// Bytes of a module, and the flags of the segment they have to lie in (PF_R, PF_X).
  struct Place {
    std::uintptr_t offset = 0;
    std::size_t size = 0;
    ElfW(Word) flags = 0;
  };

  /// The module at an address.
  Found around(const void* address) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    return program_.holds(at, 1, 0) ? found(program_, {}) : find({.address = at});
  }
  /// The module of that id, and whether it has a place.
  Found named(std::uint64_t id, Place place) noexcept {
    return program_.id == id ? found(program_, place) : find({.id = id, .place = place});
  }
  /// The program's code.
  const Extent& program_code() const noexcept { return program_code_; }

 private:
  friend LoadedModules& immortal<LoadedModules>();
  LoadedModules() noexcept {
    pthread_atfork([] { here().mutex_.lock(); }, [] { here().mutex_.unlock(); },
                   [] { here().mutex_.unlock(); });
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
          *static_cast<LoadedModule*>(data) = LoadedModule{*info};
          return 1;  // it is the first one
        },
        &program_);
    program_.id = program_.find_id();
    program_code_ = program_.code();
    // They lie in the program's file, a page of which each forked child would have to map anew.
    if (program_.count <= most_headers) {
      std::memcpy(tables_.headers, program_.headers, program_.count * sizeof *tables_.headers);
      program_.headers = tables_.headers;
    }
  }

  struct Query {
    std::uintptr_t address = 0;
    std::uint64_t id = 0;  // 0: asks by address
    Place place = {};
    LoadedModules* modules = nullptr;
    bool remembered = false;  // what is remembered was looked at
    Found found = {};

    bool wants(const LoadedModule& module) const noexcept {
      return id != 0 ? module.id == id : module.holds(address, 1, 0);
    }
  };

  static Found found(const LoadedModule& module, Place place) noexcept {
    return {module.id, module.base, module.begin(),
            module.holds(module.base + place.offset, place.size, place.flags)};
  }

  Found find(Query query) noexcept {
    const Locked lock{mutex_};
    query.modules = this;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
          Query& q = *static_cast<Query*>(data);
          return q.modules->look(q, *info) ? 1 : 0;
        },
        &query);
    return query.found;
  }

  // Whether the search is over.
  bool look(Query& query, const dl_phdr_info& info) noexcept {
    LoadedModule& last =
        tables_.recent[(query.id != 0 ? query.id >> 1 : query.address >> 16) % places];
    if (!query.remembered) {
      query.remembered = true;
      if (info.dlpi_subs != unloaded_) {
        for (LoadedModule& module : tables_.recent) module = {};
        for (LoadedModule& module : tables_.known) module = {};
        unloaded_ = info.dlpi_subs;
      }
      if (last.id != 0 && query.wants(last)) {
        query.found = found(last, query.place);
        return true;
      }
    }
    LoadedModule module{info};
    if (query.id == 0 && !query.wants(module)) return false;
    LoadedModule& known =
        tables_.known[reinterpret_cast<std::uintptr_t>(module.headers) / 4096 % places];
    if (known.headers != module.headers) {
      module.id = module.find_id();
      known = module;
    }
    module = known;
    if (!query.wants(module)) return false;
    last = module;
    query.found = found(module, query.place);
    return true;
  }

  static constexpr std::size_t places = 32;
  static constexpr std::size_t most_headers = 24;
  // Apart from what a fork touches.
  struct Tables {
    ElfW(Phdr) headers[most_headers] = {};  // the program's, if there is room
    LoadedModule recent[places] = {};       // answers, by what was asked for
    LoadedModule known[places] = {};        // by where their headers lie
  };
  LoadedModule program_;
  Extent program_code_;
  Mutex mutex_;  // guards the rest
  unsigned long long unloaded_ = 0;
  Tables& tables_ = immortal<Tables>();
};

inline CodePlace place_of(const void* address) {
  const auto module = LoadedModules::here().around(address);
  if (module.id == 0) {
    char text[96];
    std::snprintf(text, sizeof text, "%p lies in no program or library that is loaded here",
                  address);
    throw std::invalid_argument{text};
  }
  return {module.id, reinterpret_cast<std::uintptr_t>(address) - module.base};
}

inline const void* address_of(CodePlace place, std::size_t size, std::size_t alignment,
                              SegmentUse use) noexcept {
  if (place.module == 0) return nullptr;
  const auto module = LoadedModules::here().named(
      place.module,
      {place.offset, size, use == SegmentUse::code ? ElfW(Word){PF_X} : ElfW(Word){PF_R}});
  const std::uintptr_t address = module.base + place.offset;
  if (!module.has_place || address % alignment != 0) return nullptr;
  return reinterpret_cast<const void*>(address);
}

inline bool is_loaded(std::uint64_t module) noexcept {
  return module != 0 && LoadedModules::here().named(module, {}).id != 0;
}

inline std::string module_path(const void* address) {
  const auto module = LoadedModules::here().around(address);
  std::string path;
  // The loader's own name may be relative to where the program was then, and the program has none.
  // Lines are "BEGIN-END FLAGS OFFSET DEVICE INODE      PATH".
  std::FILE* const maps = module.id == 0 ? nullptr : std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return path;
  char line[PATH_MAX + 128];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    unsigned long begin = 0, end = 0;
    int name = 0;
    if (std::sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &begin, &end, &name) != 2) continue;
    if (module.begin < begin || module.begin >= end) continue;
    path.assign(line + name, std::strcspn(line + name, "\n"));
    break;
  }
  std::fclose(maps);
  return path;
}

}  // namespace brood::posix
