// Package queue keeps exports on disk until they are settled: durable before
// they are acknowledged, leased oldest first, kept back in cases when the
// upstream refuses them.
//
// # Model
//
// A [Queue] is a directory of segments. A segment is one Badger database. The
// newest segment is the active one: it takes new frames and, in the same
// transactions, the journal of everything that happens to older frames. It
// begins with a checkpoint of the whole state, so a start reads one segment
// whatever the backlog, and a transaction that moves, splits or settles frames
// is atomic because it is one Badger transaction.
//
//   - A frame is what one lane had in one group commit: concatenated protocol
//     messages, compressed with zstd, with their distinct trace ids, counts and
//     a CRC-32C. It is the unit stored, leased and settled.
//   - A lane is whatever may share a request. The queue knows it as an opaque
//     descriptor and a number.
//   - A place says where a live frame stands: [Pending], or kept back in a
//     case (quarantine, or a hold by the quota guard). A place whose case is
//     not open is Pending, which is how a release costs nothing.
//   - A blob is content too large for memory, in a file of its own. It belongs to
//     an export from the transaction that has the export's frame to the one that
//     settles it. The queue does not look into payloads: its caller says which
//     blobs an export has, and which a settlement ends.
//   - A note is a small durable fact of the caller's (a wait, an encrypted
//     credential) that shares the queue's transactions.
//
// # Bounds
//
//   - a frame: MaxFrameBytes of payload before compression, at most 64 MiB
//   - an append: 64 exports, together a quarter over MaxFrameBytes
//   - a segment: SegmentBytes of frames, or 5 MiB of index and small frames,
//     whichever comes first
//   - lanes: MaxLanes with data at a time
//   - cases: 16,384 and 24 MiB of data; notes: 8,192 and 8 MiB; each at most 64 KiB
//   - blobs: 4,096, of the size their caller allows; 32 written at a time, 256 KiB
//     of each in memory
//   - memory: the index of at most a few segments (16,384 frames each), one
//     group, and a bit per frame of partly settled segments
//   - disk: MaxBytes, and never below MinFreeBytes of free space
//   - of MaxBytes, HeldShare for holds and KeptShare for the other cases
//
// # Crash model
//
// See docs/durability.md, and docs/format.md for the bytes. In short: a [Queue.Append] that returned nil has
// been synced by Badger (value log, then write-ahead log) and survives a
// process kill and a power cut. A settlement that returned nil does too. What
// was leased and not settled is pending again after a restart.
//
// The queue knows neither the network nor the quota.
package queue
