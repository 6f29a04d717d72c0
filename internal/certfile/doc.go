// Package certfile keeps the certificate of a TLS listener current: it is read
// from files, and again when they change, so that renewing it needs no
// restart. It has no goroutine: whether files have changed is looked at when
// somebody connects.
package certfile
