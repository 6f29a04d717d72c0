package queue

import (
	"bytes"
	"testing"
)

func FuzzParseFrame(f *testing.F) {
	f.Add(goldenRecords()["frame"])
	f.Add([]byte("wF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkFrame(b) != nil {
			return
		}
		frame, err := parseFrame(FrameID{1, 2}, b)
		if err != nil {
			t.Fatalf("checked and not parsed: %v", err)
		}
		h, err := parseFrameHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		again := appendFrame(nil, h, frame.Traces, frame.Payload)
		// Bytes 4 to 7 have bits that version 1 does not use.
		copy(again[4:8], b[4:8])
		sealFrameHeader(again)
		if !bytes.Equal(again, b) {
			t.Fatalf("round trip gives\n%x, want\n%x", again, b)
		}
	})
}

func FuzzDecodeJournal(f *testing.F) {
	f.Add(goldenRecords()["journal"])
	f.Add(encodeJournal(0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, record := range [][]byte{b, resealed(b)} {
			j, err := decodeJournal(record)
			if err != nil {
				continue
			}
			st := goldenState()
			for i := range j.events {
				st.apply(&j.events[i])
			}
			again, err := decodeJournal(encodeJournal(j.next, j.events))
			if err != nil || len(again.events) != len(j.events) {
				t.Fatalf("round trip: %v", err)
			}
		}
	})
}

func FuzzDecodeCheckpoint(f *testing.F) {
	f.Add(goldenRecords()["checkpoint"])
	f.Add(encodeCheckpoint(newState()))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, record := range [][]byte{b, resealed(b)} {
			st, err := decodeCheckpoint(record)
			if err != nil {
				continue
			}
			once := encodeCheckpoint(st)
			again, err := decodeCheckpoint(once)
			if err != nil {
				t.Fatalf("round trip: %v", err)
			}
			if !bytes.Equal(once, encodeCheckpoint(again)) {
				t.Fatal("encoding a decoded checkpoint is not stable")
			}
		}
	})
}

// resealed gives b a version and a checksum that pass, so that the fuzzer gets
// to what is behind them.
func resealed(b []byte) []byte {
	w := recordWriter{buf: append([]byte{recordVersion}, b...)}
	return w.seal()
}
