// Package house holds the rules of this repository that a reader can state in
// one sentence and a machine can check. They are tests, so that `make test`
// says which rule broke, where, and why it exists. What a linter knows better
// is in .golangci.yml.
package house
