// Command weir is a local agent between applications and LangSmith: it takes
// their traces, makes them durable before it acknowledges them, and forwards
// them in batches.
//
// The command line, the environment and the configuration file are driven by
// one table (see table.go), so a setting exists in all three or in none. Each
// subcommand has its own file; only this package reads the environment, writes
// to the terminal and chooses exit codes.
package main
