/*
 * --log-file: what goes to stderr goes to a file, which may be moved away while we run.
 */
#ifndef SLUICE_TOOLS_LOG_FILE_H
#define SLUICE_TOOLS_LOG_FILE_H

/**
 * Put the file in the place of stderr, created if it is not there. Called again: the file that has
 * the name now. On failure stderr stays what it was.
 *
 * @param path  NULL: nothing to do.
 * @return 0, or an exit code after one line on stderr.
 */
int log_file_open(const char *path);

#endif
