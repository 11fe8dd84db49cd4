# make            build the program
# make bench      set up, build, bench this machine's GPU (or the CPU device), draw
# make tune       set up, build, search for the fastest points, write configs/<device>.json
# make tps        set up, build, measure tokens a second
# make test       set up, build, run every test that this machine can run
# make test-gpu   the kernel tests on cuda:0
# make help       the rest
config ?= release
CC ?= gcc
CXX ?= g++
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
B := build/$(config)

release_flags  = -O2 -g
debug_flags    = -O0 -g3
sanitize_flags = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
coverage_flags = -O0 -g --coverage
ifeq ($($(config)_flags),)
$(error config=$(config): one of release, debug, sanitize, coverage was expected)
endif

CUDA_INCLUDE := $(firstword $(wildcard /usr/local/cuda/include/cuda_occupancy.h /usr/include/cuda_occupancy.h))
CARRIED := $(wildcard .carry/include)
COMMIT := $(or $(FASTINFER_COMMIT),$(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
DIRTY := $(or $(FASTINFER_DIRTY),$(shell git diff --quiet HEAD -- 2>/dev/null && echo 0 || echo 1))

WARNINGS = -Wall -Wextra -Werror -Wno-unknown-pragmas
ifneq ($(findstring clang,$(CC)),clang)
WARNINGS += -Wno-format-truncation
endif
CPPFLAGS += -I. -D_GNU_SOURCE -DFASTINFER_CXX='"$(CXX)"' -DFASTINFER_ROOT='"$(CURDIR)"' \
  $(if $(CARRIED),-isystem $(CARRIED)) $(if $(CUDA_INCLUDE),-isystem $(dir $(CUDA_INCLUDE)))
CFLAGS += -std=c17 $($(config)_flags) $(WARNINGS) -pthread
LDLIBS += $(if $(CARRIED),-L.carry/lib) -lsqlite3 -ljansson -lpcre2-8 -lutf8proc -lz -ldl -lm -pthread
LDFLAGS += -rdynamic
ifneq ($(CARRIED),)
LDFLAGS += -Wl,-rpath,'$$ORIGIN/../../.carry/lib'
endif

LIBRARY_C := $(wildcard engine/*.c library/*.c) $(wildcard runtime/*.c kernels/*.c kernels/*/*.c harness/*.c harness/*/*.c)
CLI_C := $(wildcard cli/*.c)
TEST_C := $(wildcard tests/test_*.c)
LIBRARY_O := $(LIBRARY_C:%.c=$(B)/%.o) $(B)/sources.o
CLI_O := $(CLI_C:%.c=$(B)/%.o)
# what the program carries inside: kernel sources, their headers, the schema
CARRIES := $(sort $(wildcard runtime/simt.h runtime/simt_run.h runtime/simt_hooks.h kernels/*.cuh kernels/*/*.cuh kernels/*/*.inl kernels/*/*.cu harness/*.sql))

# V=1 shows whole commands
Q := $(if $(V),,@)
say = @$(if $(V),true,printf '%4s  %s\n' '$(1)' '$(2)')

all: $(B)/fastinfer
$(B)/fastinfer: $(CLI_O) $(LIBRARY_O)
	$(call say,LD,$@)
	$(Q)$(CC) $($(config)_flags) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
# the commit is in one object only, made anew when it changes
$(B)/harness/bench.o: CPPFLAGS += -DFASTINFER_COMMIT='"$(COMMIT)"' -DFASTINFER_DIRTY=$(DIRTY)
$(B)/harness/bench.o: $(B)/commit-$(COMMIT)-$(DIRTY)
$(B)/commit-$(COMMIT)-$(DIRTY):
	@mkdir -p $(B) && rm -f $(B)/commit-* && touch $@

$(B)/sources.c: scripts/embed.sh $(CARRIES) $(B)/carries
	@mkdir -p $(@D)
	$(Q)scripts/embed.sh $(CARRIES) > $@
$(B)/carries: .FORCE
	@mkdir -p $(@D); echo '$(CARRIES)' | cmp -s - $@ || echo '$(CARRIES)' > $@
$(B)/sources.o: $(B)/sources.c $(CARRIES)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

# the shared library: what Python and other programs load (include/fastinfer.h)
SHARED_C := $(filter-out engine/tokenizer%.c engine/chat.c,$(wildcard runtime/*.c kernels/*.c kernels/*/*.c engine/*.c library/*.c))
SHARED_O := $(SHARED_C:%.c=$(B)/pic/%.o) $(B)/pic/sources.o
library: $(B)/libfastinfer.so
$(B)/libfastinfer.so: $(SHARED_O) library/exports.map
	$(call say,LD,$@)
	$(Q)$(CC) $($(config)_flags) -shared -Wl,-soname,libfastinfer.so -Wl,-Bsymbolic -Wl,--no-undefined \
	  -Wl,--version-script=library/exports.map $(SHARED_O) $(if $(CARRIED),-L.carry/lib) -ljansson -ldl -lm -pthread -o $@
$(B)/pic/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -MMD -MP -c $< -o $@
$(B)/pic/sources.o: $(B)/sources.c $(CARRIES)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -c $< -o $@

# --- tests ---------------------------------------------------------------------------------------
TESTS := $(TEST_C:tests/%.c=$(B)/tests/%)
$(B)/tests/%.cu.o: tests/%.cu kernels/ptx.cuh runtime/simt.h runtime/simt_run.h
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) -std=c++17 $($(config)_flags) -Wall -Wextra -Wno-unknown-pragmas -fPIC -I. -x c++ -c $< -o $@
$(B)/tests/test_simt: $(B)/tests/simt_words.cu.o
$(B)/tests/test_model: $(B)/tests/reference_model.o
$(B)/tests/test_%: $(B)/tests/test_%.o $(LIBRARY_O)
	$(call say,LD,$@)
	$(Q)$(CXX) $($(config)_flags) $(LDFLAGS) $^ -lcmocka $(LDLIBS) -o $@
build-tests: $(B)/fastinfer $(B)/libfastinfer.so $(TESTS)

.PRECIOUS: $(B)/%.o $(B)/tests/%.o
# fuzzers see the engine's readers alone, through libFuzzer, AddressSanitizer and UBSan
READERS := $(filter-out $(patsubst %,engine/%.c,engine persistent prefill program step weights),$(wildcard engine/*.c))
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
build/fuzz/%: tests/fuzz/fuzz_%.c $(READERS) $(wildcard engine/*.h) runtime/status.c runtime/dtype.c
	@mkdir -p build/fuzz
	$(call say,FUZZ,$@)
	$(Q)clang $(CPPFLAGS) -std=c17 -O1 -g -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=undefined $(filter %.c,$^) $(LDLIBS) -o $@

build/fuzz/configs: tests/fuzz/fuzz_configs.c $(wildcard runtime/*.c kernels/*.c kernels/*/*.c) $(B)/sources.c
	@mkdir -p build/fuzz
	$(call say,FUZZ,$@)
	$(Q)clang $(CPPFLAGS) -std=c17 -O1 -g -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=undefined $(filter %.c,$^) $(LDLIBS) -o $@

# --- what people type ----------------------------------------------------------------------------
BENCH ?=
bench:
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@scripts/build-torch-baseline.sh $(B)/libfastinfer_torch.so
	@$(B)/fastinfer bench $(BENCH)
	@$(B)/fastinfer plot
REPORT ?=
report:
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@$(B)/fastinfer report $(REPORT)
publish:
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@scripts/build-torch-baseline.sh $(B)/libfastinfer_torch.so
	@scripts/publish.sh $(B)/fastinfer
TPS ?=
tps:
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@$(B)/fastinfer tps $(TPS)
test:
	@scripts/setup.sh test
	@scripts/test.sh
test-python:
	@scripts/test-python.sh
test-gpu:
	@$(MAKE) --no-print-directory -s -j$$(nproc) build-tests
	@scripts/test-gpu.sh $(B)
FUZZ_SECONDS ?= 20
fuzz: $(FUZZERS:%=build/fuzz/%)
	@for name in $(FUZZERS); do scripts/fuzz.sh $$name $(FUZZ_SECONDS) || exit 1; done
BASE ?= HEAD~1
gate:
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@$(B)/fastinfer gate --base $(BASE) $(GATE)
TUNE ?=
tune:
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@$(B)/fastinfer tune $(TUNE)
torch:
	@scripts/setup.sh torch
	@scripts/build-torch-baseline.sh $(B)/libfastinfer_torch.so
readme:
	@python3 scripts/readme.py
man: all
	@scripts/man.sh $(B)/fastinfer build/man
unmeasured:
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@$(B)/fastinfer config --unmeasured "Tesla T4" --arch sm_75 --out configs
format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.inl' '*.cpp')
check-format:
	@clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.inl' '*.cpp')
tidy:
	clang-tidy $(LIBRARY_C) $(CLI_C) -- $(CPPFLAGS) -std=c17
clean:
	rm -rf build
help:
	@echo "make              build/release/fastinfer (config=release|debug|sanitize|coverage)"
	@echo "make bench        bench this machine; options to the program in BENCH='--quick rmsnorm'"
	@echo "make tune         search for the fastest points; options in TUNE='rmsnorm --seconds 60'"
	@echo "make report       results/report/report.html; options in REPORT='--export results/nvidia-h200'"
	@echo "make publish      bench, tune, tps and report into results/<device>/; goes on where it was cut off"
	@echo "make test         every test this machine can run"
	@echo "make library      build/release/libfastinfer.so, the C ABI of include/fastinfer.h"
	@echo "make test-python  the Python package, installed into build/python-tools with PyTorch (large)"
	@echo "make test-gpu     every kernel, verified on cuda:0"
	@echo "make fuzz         readers of foreign files, FUZZ_SECONDS=20 each (needs clang)"
	@echo "make gate         fail where a kernel got slower than in BASE=HEAD~1; options in GATE"
	@echo "make torch        PyTorch in .venv, for the baseline"
	@echo "make readme       README's tables from results/"
	@echo "make man          build/man/fastinfer*.1, from --help (needs help2man)"
	@echo "make unmeasured   configs/tesla-t4.json by compiling alone: nothing in it was timed"
	@echo "make format | check-format | tidy | clean"

.FORCE:
.PHONY: all library bench man publish report tune tps test test-python test-gpu fuzz gate torch readme unmeasured format check-format tidy clean help build-tests .FORCE
-include $(shell find $(B) -name '*.d' 2>/dev/null)
