#!/bin/bash
# cp, mv, dd, install and their like in busybox: all come from another file system, so mv copies, after it has removed what was there.
. "$(dirname "$0")/saves.sh"
needs root fuse busybox
begin
ROUNDS=2

copy_of_new() { # FILE
	cp "$NEW" "$1"
}
moved_here() { # MV...
	copy_of_new "$T/moved" && "$@" "$T/moved" "$FILE"
}
slow_dd() {
	{ head -c 40 "$NEW"; sleep 0.4; tail -c +41 "$NEW"; } | dd of="$FILE" bs=7 conv=fsync status=none
}
dd_in_place() { # without truncation: what is over is cut off afterwards
	dd if="$NEW" of="$FILE" bs=16 conv=notrunc status=none && truncate -s "$(stat -c %s "$NEW")" "$FILE"
}
copy_to_empty_place() {
	mv "$FILE" "$T/old" && sleep 0.1 && copy_of_new "$FILE"
}
whole_directory() {
	rm -rf "$T/d" && mkdir "$T/d" && copy_of_new "$T/d/deployment.ini" && cp -a "$T/d" "$MNT/desired/deployments/"
}

saves cp copy_of_new "$FILE"
saves "cp -a" cp -a "$NEW" "$FILE"
saves "cp --remove-destination" cp --remove-destination "$NEW" "$FILE"
saves "cp --backup" cp --backup "$NEW" "$FILE"
saves "cp -a of a directory" whole_directory
saves "cp to where mv had made place" copy_to_empty_place
saves mv moved_here mv
saves "mv -b" moved_here mv -b
saves install install -m 644 "$NEW" "$FILE"
saves "dd, slowly" slow_dd
# dd that does not truncate closes a document with the old one's end behind it before truncate comes: that was meant too, whether or not it is seen
echo "; a longer text than the next one, so that something is left over" >>"$FILE"
mark
new_text
dd_in_place || fail "dd conv=notrunc failed"
expect_match "what came into force with 'dd conv=notrunc' and truncate" "$(models)" "^([0-9a-f]{8} )?$(digits "$NEW")\$"

saves "busybox cp" busybox cp "$NEW" "$FILE"
saves "busybox mv" moved_here busybox mv
saves "busybox dd" busybox dd if="$NEW" of="$FILE" bs=7
end
