# Thin on purpose: every line calls a script, cargo or xtask, so each can be run alone.
# scripts/bootstrap installs what is missing and writes target/tools/env, which names the tools to use.

ENV := . target/tools/env &&
BUILT := $(abspath $(or $(CARGO_TARGET_DIR),target))

# The workspace's own code as fast as it gets, beside what others wrote as it is built for the tests.
FAST := CARGO_PROFILE_DEV_OPT_LEVEL=3

.PHONY: run test test-long sim oracle mutants bench peers lint

# Builds Ourobox and mounts a demonstration box on a plain folder.
run:
	@scripts/bootstrap run
	@$(ENV) cargo build --locked --release --package ouro-cli
	@$(ENV) OUROBOX_BINARY=$(BUILT)/release/ourobox scripts/run

# Everything a change has to pass. The tests come last, so that the log ends with their result. The command under test is
# built in one go with the tests: alone it would need half of its dependencies again, with other features.
test: lint
	@$(ENV) cargo build --locked --workspace --bins --tests
	@$(ENV) OUROBOX_BINARY=$(BUILT)/debug/ourobox cargo test --locked --workspace --no-fail-fast

# The same tests, longer, and those that need half an hour.
test-long: lint
	@scripts/bootstrap test-long
	@$(ENV) cargo build --locked --workspace --bins --tests
	@$(ENV) OUROBOX_LONG=1 OUROBOX_HISTORIES=20000 OUROBOX_BINARY=$(BUILT)/debug/ourobox cargo test --locked --workspace --no-fail-fast

# Whole histories of the simulator on all cores: for SECONDS, or as many as HISTORIES, from the seed FIRST on. Stops at the first that
# fails.
sim:
	@scripts/bootstrap test
	@$(ENV) $(FAST) OUROBOX_SECONDS=$(SECONDS) OUROBOX_HISTORIES=$(HISTORIES) OUROBOX_FIRST=$(FIRST) \
		cargo test --locked --package ouro-sync --test simulator -- --ignored --exact sim --nocapture

# N histories of the model in crates/ouro-core/tests/reference, from the seed FIRST on, replayed.
oracle:
	@scripts/bootstrap test
	@$(ENV) $(FAST) OUROBOX_HISTORIES=$(N) OUROBOX_FIRST=$(FIRST) \
		cargo test --locked --package ouro-core --test histories -- reference --nocapture

# Bugs planted on purpose, each of which the simulator or the model has to find.
mutants:
	@scripts/bootstrap test
	@$(ENV) scripts/mutants $(NAME)

# Figures beside the peers, in one run. tests/bench/bench.py says what can be set.
bench:
	@scripts/bootstrap bench
	@$(ENV) cargo build --locked --release --package ouro-cli --package ouro-fuse --bins --example memory
	@$(ENV) OUROBOX_BINARY=$(BUILT)/release/ourobox tests/bench/bench.py

# The same edits on Syncthing, Unison and Ourobox, and what became of them (docs/conflicts-compared.md).
peers:
	@scripts/bootstrap peers
	@$(ENV) cargo build --locked --release --package ouro-cli
	@$(ENV) OUROBOX_BINARY=$(BUILT)/release/ourobox tests/bench/conflicts.py

# Style, lints and the rules of the house.
lint:
	@scripts/bootstrap test
	@$(ENV) cargo fmt --all --check
	@$(ENV) cargo xtask tidy
	@$(ENV) cargo xtask arch
	@$(ENV) cargo clippy --locked --workspace --all-targets -- -D warnings
	@$(ENV) scripts/deny
