/* Checks that end the program with the line that failed. */
#ifndef EXPECT_H
#define EXPECT_H

#include <bise.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a call's error goes; it is freed by the macros. */
static _Thread_local bise_error *error = NULL;

/* A call with its error at the end returns this status, and has an error with a message exactly if that is one. */
#define EXPECT(status, ...) expect((__VA_ARGS__), (status), NULL, __FILE__, __LINE__, #__VA_ARGS__)

/* The same, and the message holds a text. */
#define EXPECT_MESSAGE(status, text, ...) expect((__VA_ARGS__), (status), (text), __FILE__, __LINE__, #__VA_ARGS__)

#define OK(...) EXPECT(BISE_OK, __VA_ARGS__)

#define ASSERT(condition)                                                       \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

static inline void expect(bise_status found, bise_status wanted, const char *text, const char *file, int line,
                          const char *call) {
    const char *message = error != NULL ? bise_error_message(error) : "";
    int fits = found == wanted && (found < 0) == (error != NULL) && (found < 0) == (message[0] != '\0');
    if (error != NULL && bise_error_status(error) != found)
        fits = 0;
    if (text != NULL && strstr(message, text) == NULL)
        fits = 0;
    if (!fits) {
        fprintf(stderr, "%s:%d: %s\n  gives %s (%s), expected %s%s%s\n", file, line, call, bise_status_name(found), message,
                bise_status_name(wanted), text ? " with " : "", text ? text : "");
        exit(1);
    }
    bise_error_free(error);
    error = NULL;
}

#endif
