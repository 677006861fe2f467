// A page that was opened as a file may not read others: results come without an excerpt then.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
