// Package exported is the form in which quarantined data leaves weir: lines of
// JSON, for a person to read and for `weir import` to take back. docs/quarantine.md
// describes it for people.
package exported
