package import Primitives

/// Makes known a key with which a node signs checkpoints; valid from when the command is applied.
package struct PublishKeyCommand: Sendable, Equatable {
    package let node: NodeID
    /// The public key as a C2SP vkey: name, key id and key.
    package let key: String

    package init(node: NodeID, key: String) {
        self.node = node
        self.key = key
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.node.rawValue)
        writer.write(prefixed: self.key)
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.node = NodeID(try reader.read())
        self.key = try reader.readPrefixedText()
    }
}

/// Ends the validity of a node's key.
package struct RetireKeyCommand: Sendable, Equatable {
    package let node: NodeID
    /// The public key as it was published.
    package let key: String
    /// The last moment at which it is valid; nil for when the command is applied.
    package let at: Timestamp?

    package init(node: NodeID, key: String, at: Timestamp? = nil) {
        self.node = node
        self.key = key
        self.at = at
    }

    func encode(into writer: inout ByteWriter) {
        writer.write(self.node.rawValue)
        writer.write(prefixed: self.key)
        writer.write(UInt8(self.at == nil ? 0 : 1))
        if let at = self.at { writer.write(at.rawValue) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.node = NodeID(try reader.read())
        self.key = try reader.readPrefixedText()
        self.at = try reader.read(UInt8.self) == 0 ? nil : Timestamp(microseconds: try reader.read())
    }
}
