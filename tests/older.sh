#!/usr/bin/env bash
# Builds the older binary that the tests of versions meet: target/older/dewar.
#
# It is of the last commit before limits, isolation and features by number, so it drops most of what
# a task may be held to. It is built from this repository's own history, once, and never kept in it.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly COMMIT=a77125241ce0c2ba7cd8783690d9a2aa8f53e4a3
readonly PLACE=target/older
if [ "$(cat "$PLACE/commit" 2>/dev/null)" = "$COMMIT" ] && [ -x "$PLACE/dewar" ]; then
    exit 0
fi
if ! git cat-file -e "$COMMIT^{commit}" 2>/dev/null; then
    echo "the history of this clone does not reach back to $COMMIT" >&2
    exit 1
fi
mkdir -p "$PLACE"
rm -rf "$PLACE/source" "$PLACE/commit"
mkdir "$PLACE/source"
git archive "$COMMIT" | tar x -C "$PLACE/source"
# It is run, not debugged.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build --locked --manifest-path "$PLACE/source/Cargo.toml" --target-dir "$PLACE/target" --bin dewar
cp "$PLACE/target/debug/dewar" "$PLACE/dewar.new"
mv "$PLACE/dewar.new" "$PLACE/dewar"
echo "$COMMIT" > "$PLACE/commit"
