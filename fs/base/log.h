/* The daemon's own log: stderr with -f, STATE/log otherwise. Any thread. The level is the program's one global. */
#ifndef REBARFS_BASE_LOG_H
#define REBARFS_BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
extern enum log_level log_max;
void log_to_file(const char *path); /* else stderr; NULL goes back to stderr */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
