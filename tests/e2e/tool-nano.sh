#!/bin/bash
# nano writes in place, after it has emptied the file.
. "$(dirname "$0")/saves.sh"
needs root fuse nano script
begin
ROUNDS=2

# Cuts every line, inserts the new text, saves and leaves.
with_nano() {
	local cuts
	cuts=$(printf '\v%.0s' {1..20})
	(sleep 0.3; printf '%s\022%s\r' "$cuts" "$NEW"; sleep 0.2; printf '\023'; sleep 0.2; printf '\030') |
		timeout 20 script -qec "nano -I $* '$FILE'" /dev/null >/dev/null
}
saves nano with_nano
saves "nano with backups" with_nano -B
saves "nano with a lock file" with_nano -G
FILE=$REPO/$DOCUMENT
saves "nano behind the mount" with_nano
end
