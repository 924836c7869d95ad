#!/bin/bash
# emacs; and the steps of its save-buffer (files.el and fileio.c of emacs 28) taken one by one, so slow that somebody looks after each.
. "$(dirname "$0")/saves.sh"
needs root fuse emacs
begin
ROUNDS=2

with_emacs() { # LISP
	emacs -Q --batch --eval "(progn $1 (find-file \"$FILE\") (erase-buffer) (insert-file-contents \"$NEW\") (save-buffer))" >/dev/null 2>&1
}
write_slowly() {
	{ head -n 4 "$NEW"; sleep 0.2; tail -n +5 "$NEW"; } >"$1"
}
# The first save of a session: the old file becomes the backup.
by_renaming() {
	local d=${FILE%/*}
	ln -s "somebody@somewhere.1:1" "$d/.#deployment.ini" && write_slowly "$d/#deployment.ini#" && mv "$FILE" "$FILE~" && sleep 0.2 &&
		write_slowly "$FILE" && sync "$FILE" && sleep 0.05 && chmod 644 "$FILE" && rm "$d/#deployment.ini#" "$d/.#deployment.ini"
}
# Every other one, and backup-by-copying
in_place() {
	cp -p "$FILE" "$FILE~" && write_slowly "$FILE" && sync "$FILE" && chmod 644 "$FILE"
}
# file-precious-flag, on a machine so busy that half a second passes without the document
by_temp() {
	write_slowly "${FILE%/*}/tmpXyZ" && sleep 0.1 && mv "$FILE" "$FILE~" && sleep 0.5 && mv "${FILE%/*}/tmpXyZ" "$FILE"
}
saves emacs with_emacs ""
saves "emacs with copies as backups" with_emacs "(setq backup-by-copying t)"
saves "emacs with precious files" with_emacs "(setq file-precious-flag t)"
saves "emacs' steps: a backup by renaming" by_renaming
saves "emacs' steps: in place" in_place
saves "emacs' steps: by a temporary file" by_temp
FILE=$REPO/$DOCUMENT
saves "emacs' steps behind the mount" by_renaming
end
