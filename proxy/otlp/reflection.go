package otlp

import (
	"fmt"
	"strings"
	"sync"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// RegisterReflection registers gRPC server reflection (v1 and v1alpha) on s.
// It describes every service on s; unlike reflection.Register it knows OTLP's
// TraceService too. It fails only if the program is built wrong.
func RegisterReflection(s reflection.GRPCServer) error {
	files, err := otlpFiles()
	if err != nil {
		return fmt.Errorf("describe OTLP for server reflection: %w", err)
	}
	opts := reflection.ServerOptions{Services: s, DescriptorResolver: resolver{files}}
	reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(opts))
	reflectionv1alpha.RegisterServerReflectionServer(s, reflection.NewServer(opts))
	return nil
}

// resolver looks into OTLP's descriptors first, then among all that the program
// was built with.
type resolver struct{ otlp *protoregistry.Files }

// FindFileByPath implements protodesc.Resolver.
func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if d, err := r.otlp.FindFileByPath(path); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := r.otlp.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// otlpFiles returns OTLP's own descriptors. The slim build of the protos keeps
// out of the way of the full one by putting every name under another package;
// here the names are put back. They are not registered globally, where they
// could collide.
var otlpFiles = sync.OnceValues(func() (*protoregistry.Files, error) {
	files := new(protoregistry.Files)
	return files, addFile(files, tracecollector.File_opentelemetry_proto_collector_trace_v1_trace_service_proto)
})

// addFile adds slim and all it imports to files, under their real names.
func addFile(files *protoregistry.Files, slim protoreflect.FileDescriptor) error {
	file, ok := proto.Clone(protodesc.ToFileDescriptorProto(slim)).(*descriptorpb.FileDescriptorProto)
	if !ok {
		return fmt.Errorf("%s is not a file descriptor", slim.Path())
	}
	file.Name = new(realPath(file.GetName()))
	if _, err := files.FindFileByPath(file.GetName()); err == nil {
		return nil
	}
	imports := slim.Imports()
	for i := range imports.Len() {
		if err := addFile(files, imports.Get(i).FileDescriptor); err != nil {
			return err
		}
		file.Dependency[i] = realPath(file.Dependency[i])
	}
	file.Package = new(realName(file.GetPackage()))
	for _, m := range file.GetMessageType() {
		renameFields(m)
	}
	for _, s := range file.GetService() {
		for _, m := range s.GetMethod() {
			m.InputType = new(realName(m.GetInputType()))
			m.OutputType = new(realName(m.GetOutputType()))
		}
	}
	d, err := protodesc.NewFile(file, files)
	if err != nil {
		return fmt.Errorf("%s: %w", file.GetName(), err)
	}
	return files.RegisterFile(d)
}

func renameFields(m *descriptorpb.DescriptorProto) {
	for _, f := range m.GetField() {
		if f.TypeName != nil {
			f.TypeName = new(realName(f.GetTypeName()))
		}
	}
	for _, nested := range m.GetNestedType() {
		renameFields(nested)
	}
}

func realPath(path string) string { return strings.Replace(path, "proto/slim/", "proto/", 1) }
func realName(name string) string { return strings.Replace(name, "proto.slim.", "proto.", 1) }
