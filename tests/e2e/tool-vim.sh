#!/bin/bash
# vim, with each of its ways of saving, with and without a screen; and the vi of busybox.
. "$(dirname "$0")/saves.sh"
needs root fuse busybox script
vim=$(command -v vim.tiny || command -v vim) || skip "needs 'vim' in the PATH (package vim-tiny)"
begin

# with_vim COMMAND...: without a screen
with_vim() {
	local args=() command
	for command; do args+=(-c "$command"); done
	"$vim" -u NONE -es "${args[@]}" -c '%d' -c "0r $NEW" -c '$g/^$/d' -c wq "$FILE" </dev/null
}
# on_screen EDITOR KEYS: typed at it
on_screen() {
	(sleep 0.3; printf '%b' "$2") | timeout 20 script -qec "stty cols 200; $1 '$FILE'" /dev/null >/dev/null
}
vim_on_screen() {
	on_screen "$vim -u NONE" ":%d\r:0r $NEW\r:\$d\r:wq\r"
}
busybox_vi() {
	on_screen "busybox vi" ":%d\r:r $NEW\rggdd:wq\r"
}

saves "vim" with_vim
saves "vim with backup" with_vim 'set backup'
saves "vim with backupcopy=no" with_vim 'set backup backupcopy=no'
saves "vim with backupcopy=yes" with_vim 'set backup backupcopy=yes'
saves "vim with backupcopy=auto,breakhardlink" with_vim 'set backupcopy=auto,breakhardlink'
saves "vim without writebackup" with_vim 'set nowritebackup'
saves "vim without fsync" with_vim 'set nofsync'
saves "vim on a screen" vim_on_screen
saves "busybox vi" busybox_vi

# Its steps one by one, so slow that somebody looks after each: tries out the directory, moves the old file aside, writes a new one, removes the old.
slowly() {
	local d=${FILE%/*}
	: >"$d/4913" && sleep 0.05 && rm "$d/4913" && : >"$d/.deployment.ini.swp" && mv "$FILE" "$FILE~" && sleep 0.2 &&
		{ head -n 4 "$NEW"; sleep 0.2; tail -n +5 "$NEW"; } >"$FILE" && sleep 0.05 && chmod 644 "$FILE" && rm "$FILE~" "$d/.deployment.ini.swp"
}
saves "vim's steps, slowly" slowly
FILE=$REPO/$DOCUMENT
saves "vim's steps behind the mount, slowly" slowly
saves "vim behind the mount" with_vim
rm -f "$FILE~"
expect "what is left beside the document" "$(list "$REPO/deployments/d")" deployment.ini
end
