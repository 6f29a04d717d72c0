// Package idmap keeps an exact durable map from trace ids to small entries,
// in bounded memory at any size.
//
// What is written goes to a log and to a table in memory. A full table is
// frozen and written as a sorted run; runs are merged so that there are few.
// A manifest names the runs and the log that counts first. All of it is plain
// files, read and written with plain calls: a full disk is an error, never a
// signal. docs/quota-format.md has the bytes.
//
// apply.go is the way in, get.go the way out, work.go what goes on behind
// them, recover.go what a start does.
package idmap
