#ifndef CEDITLINE_SHIM_H
#define CEDITLINE_SHIM_H

#include <stdio.h>
#include <stdlib.h>
#include <editline/readline.h>

// The library's settings are global variables of C, which Swift cannot name safely: they are set here.

static inline void shim_edit_configure(const char *name, rl_completion_func_t *completion) {
  static const char breaks[] = " \t\n\"'`@$><=;|&{(,";
  rl_readline_name = name;
  rl_attempted_completion_function = completion;
  rl_basic_word_break_characters = (char *)breaks;
  rl_catch_signals = 0;
  using_history();
}

// Nothing but what the completion itself found: no names of files.
static inline void shim_edit_end_completion(void) { rl_attempted_completion_over = 1; }

static inline char *shim_edit_buffer(void) { return rl_line_buffer; }

#endif
