import AuditLedger
import Primitives
import Testing

/// RFC 8785 and the strictness that it builds on.
struct CanonicalJSONTests {
    static let lenient = JSONLimits(numbers: .nearestDouble)

    @Test func writesTheExampleOfSection322() throws {
        let input = #"""
            {
              "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
              "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
              "literals": [null, true, false]
            }
            """#
        let wanted =
            #"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#
            + #""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        #expect(text(try CanonicalJSON.canonicalize(bytes(input), limits: Self.lenient)) == wanted)
    }

    @Test func sortsKeysByUTF16CodeUnits() throws {
        let input = #"""
            {"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
            "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}
            """#
        let canonical = try CanonicalJSON.canonicalize(bytes(input))
        guard case .object(let members) = try JSONParser.parse(canonical) else {
            Issue.record("not an object")
            return
        }
        let values = try members.map { try JSONPlace($0.value).string() }
        #expect(
            values == [
                "Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis", "Euro Sign",
                "Emoji: Grinning Face", "Hebrew Letter Dalet With Dagesh",
            ]
        )
        // A tree made by hand, in another order, gives the same text.
        #expect(CanonicalJSON.encode(.object(members.reversed())) == canonical)
        #expect(CanonicalJSON.isCanonical(canonical))
    }

    /// RFC 8785 appendix B: bits of the double and its text.
    @Test(
        arguments: [
            (0x0000_0000_0000_0000, "0"), (0x8000_0000_0000_0000, "0"), (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"), (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"), (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"), (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"), (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"), (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"), (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"), (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"), (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"), (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"), (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] as [(UInt64, String)]
    )
    func writesNumbersAsECMAScript(bits: UInt64, wanted: String) throws {
        let number = try #require(JSONNumber(double: Double(bitPattern: bits)))
        #expect(text(number.text) == wanted)
        #expect(number.double == Double(bitPattern: bits))
    }

    @Test(arguments: ["0", "-1", "9007199254740991", "-9007199254740991", "0.5", "1e-7", "1e+21", "-0.25", "123.456"])
    func acceptsNumbersThatAreExact(number: String) throws {
        #expect(text(try CanonicalJSON.canonicalize(bytes(number))) == number)
        #expect(CanonicalJSON.isCanonical(bytes(number)))
    }

    @Test(
        arguments: [
            "1.0", "1e2", "-0", "-0.0", "9007199254740993", "9007199254740992", "-9007199254740992", "1E3", "0.10",
            "1e21", "0.0000001", "1e400", "123456789012345678901234567890", "0.1000000000000000055", "1e-400",
        ]
    )
    func refusesNumbersThatAreNot(number: String) {
        let error = #expect(throws: JSONError.self) {
            try CanonicalJSON.canonicalize(bytes(#"{"a":[0,{"b/c":\#(number)}]}"#))
        }
        #expect(error?.code == .numberNotRepresentable)
        #expect(error?.path == "/a/1/b~1c")
        #expect(!CanonicalJSON.isCanonical(bytes(number)))
    }

    @Test(arguments: ["01", "+1", ".5", "1.", "1e", "1e+", "--1", "0x1", "NaN", "Infinity", "-"])
    func refusesWhatIsNoNumber(number: String) {
        let error = #expect(throws: JSONError.self) { try CanonicalJSON.canonicalize(bytes(number)) }
        #expect(error?.code == .syntax || error?.code == .trailingBytes)
    }

    @Test func keepsComposedAndDecomposedKeysApart() throws {
        let composed = "\u{e9}"
        let decomposed = "e\u{301}"
        #expect(composed == decomposed, "String takes them as equal: that is the trap")
        let canonical = try CanonicalJSON.canonicalize(bytes("{\"\(composed)\":1,\"\(decomposed)\":2}"))
        #expect(canonical.elementsEqual(bytes("{\"\(decomposed)\":2,\"\(composed)\":1}")))
        let value = try JSONParser.parse(canonical)
        #expect(try JSONPlace(value).integer(composed) == 1)
        #expect(try JSONPlace(value).integer(decomposed) == 2)
    }

    @Test(
        arguments: [
            (#"{"a":1,"a":2}"#, "/a"), (#"{"b":0,"a":1,"c":3,"\u0061":2}"#, "/a"),
            (#"{"x":[{"k":1,"k":1}]}"#, "/x/0/k"),
            (#"{"\"":1,"\u0022":2}"#, "/\""),
        ]
    )
    func refusesDuplicateKeys(input: String, path: String) {
        let error = #expect(throws: JSONError.self) { try JSONParser.parse(bytes(input)) }
        #expect(error?.code == .duplicateKey)
        #expect(error?.path == path)
    }

    @Test func boundsDepthValuesAndBytes() throws {
        func nested(_ depth: Int) -> [UInt8] {
            [UInt8](repeating: 0x5B, count: depth) + [UInt8](repeating: 0x5D, count: depth)
        }
        #expect(try CanonicalJSON.canonicalize(nested(32)) == nested(32))
        #expect(throws: JSONError.self) { try CanonicalJSON.canonicalize(nested(33)) }
        #expect(#expect(throws: JSONError.self) { try JSONParser.parse(nested(100_000)) }?.code == .tooDeep)
        #expect(!CanonicalJSON.isCanonical(nested(100_000)))
        let small = JSONLimits(bytesMax: 8, valuesMax: 3)
        #expect(try CanonicalJSON.canonicalize(bytes("[1,2]"), limits: small) == bytes("[1,2]"))
        #expect(
            #expect(throws: JSONError.self) { try JSONParser.parse(bytes("[1,2,3]"), limits: small) }?.code == .tooLarge
        )
        #expect(try CanonicalJSON.canonicalize(bytes("[1   ,2]"), limits: small) == bytes("[1,2]"))
        #expect(
            #expect(throws: JSONError.self) { try JSONParser.parse(bytes("[1    ,2]"), limits: small) }?.code
                == .tooLarge
        )
    }

    @Test(
        arguments: [
            (#""\ud800""#, JSONError.Code.loneSurrogate), (#""\udc00""#, .loneSurrogate),
            (#""\ud800\u0041""#, .loneSurrogate), (#""\ud800x""#, .loneSurrogate), (#""\u12g4""#, .syntax),
            (#""\x""#, .syntax), ("\"a\nb\"", .syntax), (#""abc"#, .syntax), ("[1,]", .syntax), ("{,}", .syntax),
            (#"{"a"}"#, .syntax), (#"{"a":}"#, .syntax), (#"{a:1}"#, .syntax), ("", .syntax), (" ", .syntax),
            ("nul", .syntax), ("nulL", .syntax), ("1 2", .trailingBytes), ("{}x", .trailingBytes), ("[1 2]", .syntax),
            ("[", .syntax), ("{", .syntax), (#"{"a":1"#, .syntax), ("]", .syntax), ("\u{feff}1", .syntax),
            (#"'a'"#, .syntax), ("[1,2]//", .trailingBytes),
        ]
    )
    func refusesWhatIsNotStrict(input: String, code: JSONError.Code) {
        let error = #expect(throws: JSONError.self) { try JSONParser.parse(bytes(input)) }
        #expect(error?.code == code)
        #expect(!CanonicalJSON.isCanonical(bytes(input)))
    }

    @Test(
        arguments: [
            [0xC0, 0x80], [0xC1, 0xBF], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF0, 0x80, 0x80, 0x80],
            [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0x80], [0xC3], [0xE2, 0x82], [0xFF], [0xC3, 0x28],
            [0xF0, 0x9F, 0x98],
        ] as [[UInt8]]
    )
    func refusesInvalidUTF8(sequence: [UInt8]) {
        let input = [0x22] + sequence + [0x22]
        let error = #expect(throws: JSONError.self) { try JSONParser.parse(input) }
        #expect(error?.code == .invalidUTF8)
        #expect(!CanonicalJSON.isCanonical(input))
    }

    @Test func namesLineAndColumn() {
        let error = #expect(throws: JSONError.self) { try JSONParser.parse(bytes("{\n  \"a\": [1,\n  tru]\n}")) }
        #expect(error?.line == 3)
        #expect(error?.column == 3)
        #expect(error?.path == "/a/1")
    }

    @Test(
        arguments: [
            #"{"b":1,"a":2}"#, #"{ "a":1}"#, #"["\/"]"#, #"["\u0041"]"#, #"["\u000F"]"#, #"["\u000a"]"#, "[1.0]",
            #"{"\ufb33":1,"😀":2}"#, #"{"a":1,"a":1}"#, "[1] ", #"["\u00e9"]"#,
        ]
    )
    func tellsCanonicalFromOther(input: String) {
        #expect(!CanonicalJSON.isCanonical(bytes(input)))
        if let canonical = try? CanonicalJSON.canonicalize(bytes(input)) {
            #expect(CanonicalJSON.isCanonical(canonical))
        }
    }

    @Test func readsBodiesWithErrorsThatNameTheMember() throws {
        let body = JSONPlace(try JSONParser.parse(bytes(#"{"sql":"x","n":[1,"a"],"deep":{"odd":true}}"#)))
        #expect(try body.string("sql") == "x")
        #expect(try body.optionalString("nothing") == nil)
        func failure(_ body: () throws -> Void) -> JSONError? { #expect(throws: JSONError.self) { try body() } }
        #expect(failure { try body.requireOnly(keys: ["sql", "n"]) }?.path == "/deep")
        #expect(failure { _ = try body.string("missing") }?.code == .missingMember)
        #expect(failure { _ = try body.integer("sql") }?.code == .wrongType)
        #expect(failure { _ = try body.array("n")[1].integer() }?.path == "/n/1")
        #expect(failure { _ = try body.required("deep").string("odd") }?.path == "/deep/odd")
    }
}
