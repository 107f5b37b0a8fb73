internal import HTTPTypes
internal import Laboratory
internal import Primitives
internal import Shards
internal import Testing

@testable internal import NodeRuntime

@Suite("Requests")
struct APIRequestTests {
    @Test func pathsAreCutAtSlashesAndDecoded() {
        #expect(RequestTarget.segments(of: "/v1/organizations/lab-a") == ["v1", "organizations", "lab-a"])
        #expect(RequestTarget.segments(of: "/v1//a/") == ["v1", "a"])
        #expect(RequestTarget.segments(of: "/a%2Fb/%C3%A4+") == ["a/b", "ä+"])
        #expect(RequestTarget.segments(of: "/") == [])
    }

    @Test(arguments: ["/%", "/%4", "/%zz", "/%4g", "/a%00b", "/%C3", "/%FF%FE", "/%ED%A0%80"])
    func badEscapesAreRefused(path: String) {
        #expect(RequestTarget.segments(of: path[...]) == nil)
        #expect(RequestTarget.parameters(of: "a=\(path)"[...]) == nil)
    }

    private func pairs(_ query: String) -> [String]? {
        RequestTarget.parameters(of: query[...])?.map { "\($0.name)→\($0.value)" }
    }

    @Test func parametersAreDecodedInOrder() {
        #expect(self.pairs("a=1&b=x+y&c=%2B%26%3D&d&e=") == ["a→1", "b→x y", "c→+&=", "d→", "e→"])
        #expect(self.pairs("a=b=c&&a=2") == ["a→b=c", "a→2"])
        #expect(self.pairs("") == [])
        #expect(self.pairs("caf%C3%A9=%F0%9F%A7%AA") == ["café→🧪"])
    }

    @Test func unknownAndRepeatedParametersAreRefused() throws {
        try Fixture.call([("a", "1"), ("b", "2")]).requireOnly(parameters: ["a", "b", "c"])
        #expect(throws: Problem.self) { try Fixture.call([("z", "1")]).requireOnly(parameters: ["a"]) }
        #expect(throws: Problem.self) { try Fixture.call([("a", "1"), ("a", "1")]).requireOnly(parameters: ["a"]) }
    }

    @Test func idempotencyKeysAreVisibleASCIIWithinTheirLength() throws {
        func key(_ text: String) throws -> String? {
            try Fixture.call(headers: [.idempotencyKey: text]).idempotencyKey()
        }
        #expect(try Fixture.call().idempotencyKey() == nil)
        #expect(try key("import:lab-a:1~!") == "import:lab-a:1~!")
        #expect(try key(String(repeating: "k", count: 200))?.count == 200)
        for bad in ["", "a b", "ä", String(repeating: "k", count: 201), "a\tb"] {
            #expect(throws: Problem.self, "\(bad)") { try key(bad) }
        }
        // Two fields of the name are no key.
        var fields = HTTPFields()
        fields.append(HTTPField(name: .idempotencyKey, value: "a"))
        fields.append(HTTPField(name: .idempotencyKey, value: "b"))
        #expect(throws: Problem.self) { try Fixture.call(headers: fields).idempotencyKey() }
    }

    @Test func mediaTypesAreReadWithoutTheirParameters() {
        #expect(MediaType("application/json") == .json)
        #expect(MediaType("Application/JSON ; charset=utf-8") == .json)
        #expect(MediaType(" application/x-ndjson;a=b") == .ndjson)
        for bad in [nil, "", "text/json", "application/jsonx", "application"] {
            #expect(MediaType(bad) == nil)
        }
    }

    @Test func whatATokenMayNotKnowOfDoesNotExist() throws {
        let grant = Grant(role: .reader, organizations: [try Fixture.key("lab-a")])
        let token = TokenEntry(id: "t", hash: .zero, name: "", grant: grant, createdAt: Timestamp(microseconds: 0))
        let call = Fixture.call(token: token)
        try call.allow(.readRecords, in: try Fixture.key("lab-a"))
        func code(_ operation: AccessOperation, _ organization: String) throws -> Problem.Code? {
            do {
                try call.allow(operation, in: try Fixture.key(organization))
                return nil
            } catch let problem as Problem {
                return problem.code
            }
        }
        #expect(try code(.appendRecords, "lab-a") == .forbidden)
        #expect(try code(.readRecords, "lab-b") == .organizationNotFound)
        #expect(try code(.appendRecords, "lab-b") == .organizationNotFound)
    }

    @Test func requestIDsDiffer() {
        let ids = RequestIDs()
        let some = (0..<100).map { _ in ids.next() }
        #expect(Set(some).count == 100)
        #expect(some.allSatisfy { $0.count == 16 })
    }
}

@Suite("JSON that is written")
struct APIJSONOutputTests {
    private func text(_ body: (inout JSONOutput) -> Void) -> String {
        var json = JSONOutput()
        body(&json)
        return String(decoding: json.bytes, as: UTF8.self)
    }

    @Test func textsAreEscapedAndNothingElse() {
        let text = self.text { $0.element("a\"b\\c/\u{0}\u{1F}\n\u{7F}é🧪</script>") }
        #expect(text == #""a\"b\\c/\u0000\u001f\u000a"# + "\u{7F}é🧪</script>\"")
    }

    @Test func commasStandBetweenMembersOnly() {
        let text = self.text { json in
            json.beginObject()
            json.beginArray("a")
            json.endArray()
            json.beginArray("b")
            json.element("x")
            json.element(raw: Array("1".utf8))
            json.beginObject()
            json.endObject()
            json.endArray()
            json.member("c", true)
            json.member("d", nil as UInt64?)
            json.member("e", nil as String?)
            json.member("f", -5)
            json.member("g", UInt64.max as UInt64?)
            json.member("h", raw: Array("[]".utf8))
            json.member(named: "i\"", "j")
            json.endObject()
        }
        #expect(
            text == #"{"a":[],"b":["x",1,{}],"c":true,"d":null,"e":null,"f":-5,"g":18446744073709551615,"#
                + #""h":[],"i\"":"j"}"#
        )
    }

    @Test func digestsTimesAndThousandthsHaveTheirForms() {
        let text = self.text { json in
            json.beginObject()
            json.member("a", Digest(words: (0, 0, 0, 255)))
            json.member("b", Timestamp(microseconds: 1))
            json.member("c", thousandths: 12_034)
            json.member("d", thousandths: 7)
            json.endObject()
        }
        let digest = String(repeating: "0", count: 62) + "ff"
        #expect(text == #"{"a":"\#(digest)","b":"1970-01-01T00:00:00.000001Z","c":12.034,"d":0.007}"#)
    }

    @Test func linesStandAlone() {
        let text = self.text { json in
            for number in 1...2 {
                json.beginObject()
                json.member("n", number)
                json.endObject()
                json.endLine()
            }
        }
        #expect(text == "{\"n\":1}\n{\"n\":2}\n")
    }
}
