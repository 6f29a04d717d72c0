package queue

func childFill() error { return nil }
