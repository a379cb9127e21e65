// Command protogen writes the Go code of .proto files. It does what protoc with
// protoc-gen-go does, but compiler and generator are both Go modules, so go.mod
// pins them and nothing needs to be installed.
//
// Usage: protogen ROOT FILE..., where each FILE is relative to ROOT, as import
// paths are. The code is written beside it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: protogen ROOT FILE")
	}
	root := args[0]
	code, err := generate(context.Background(), root, args[1:])
	if err != nil {
		return err
	}
	for name, content := range code {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the code by the name of its file, relative to root.
func generate(ctx context.Context, root string, files []string) (map[string][]byte, error) {
	request, err := compile(ctx, root, files)
	if err != nil {
		return nil, err
	}
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		return nil, err
	}
	for _, f := range plugin.Files {
		if f.Generate {
			internal_gengo.GenerateFile(plugin, f)
		}
	}
	response := plugin.Response()
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	code := make(map[string][]byte)
	for _, f := range response.File {
		code[f.GetName()] = []byte(f.GetContent())
	}
	return code, nil
}

// compile parses the files and makes of them what protoc hands to its plugins.
func compile(ctx context.Context, root string, files []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // the comments
	}
	linked, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, err
	}

	// Plugins want every file after those it imports.
	var all []*descriptorpb.FileDescriptorProto
	added := make(map[string]bool)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if added[f.Path()] {
			return
		}
		added[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		all = append(all, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range linked {
		add(f)
	}
	return &pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      new("paths=source_relative"),
		ProtoFile:      all,
	}, nil
}
