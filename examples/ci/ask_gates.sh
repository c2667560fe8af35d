#!/usr/bin/env bash
# ask_gates.sh REF FOLDER: dry run of a promotion. Leaves plan.json, promotion.html and comment.md in FOLDER.
# Exit code 0: it may go live; 3: a gate refuses; anything else: it could not be asked, and no comment is written.
set -uo pipefail
if [ $# -ne 2 ]; then
  echo "usage: ask_gates.sh REF FOLDER, such as ask_gates.sh shop-search@7 gates" >&2
  exit 2
fi
mkdir -p "$2"
rm -f "$2/plan.json" "$2/promotion.html" "$2/comment.md" # those of another run
vitrine promote "$1" --dry-run --json --report "$2/promotion.html" >"$2/plan.json"
asked=$?
if [ $asked -ne 0 ] && [ $asked -ne 3 ]; then
  exit $asked
fi
vitrine gates comment "$2/plan.json" --link "${REPORT_LINK:-}" >"$2/comment.md"
