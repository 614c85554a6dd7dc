# Completions of tokenkeep for fish 3.1 or newer.
complete --keep-order --exclusive --command tokenkeep --arguments "(TOKENKEEP_COMPLETE=fish tokenkeep -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token) 2>/dev/null)"
