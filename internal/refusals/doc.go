// Package refusals plays every scene of internal/smith/scene to a whole
// pipeline in one process: the ways in, a queue on disk, the forwarder, and the
// client that speaks to the scene's hosts. It holds tests only: what is refused
// must be in a case, what passes by itself must wait without one, nothing may be
// lost, and once the cause is gone everything must arrive once. And it lets runs
// get too old for the start-time window, over restarts and kills.
package refusals
