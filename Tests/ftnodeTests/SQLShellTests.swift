internal import Testing

@testable internal import ftnode

@Suite("What is typed into the SQL shell")
struct SQLShellTests {
    @Test func aStatementEndsWithItsSemicolon() {
        var input = ShellInput()
        #expect(input.add("select 1").isEmpty)
        #expect(input.middle == .statement)
        #expect(input.add("  + 2; select 3;") == [.statement("select 1\n  + 2"), .statement("select 3")])
        #expect(input.middle == .nothing)
        #expect(input.finish() == nil)
    }

    @Test(arguments: [
        ("select ';", ShellInput.Middle.text), ("select \"a;", .name), ("select 1 /* ;", .comment),
        ("select $$ ; ", .dollars), ("select $tag$ ; $$ ", .dollars), ("select 1 -- ;", .statement),
    ])
    func semicolonsInQuotesAndCommentsEndNothing(line: String, middle: ShellInput.Middle) {
        var input = ShellInput()
        #expect(input.add(line).isEmpty)
        #expect(input.middle == middle)
    }

    @Test func quotesMayHoldQuotes() {
        var input = ShellInput()
        #expect(input.add("select 'it''s; so', \"a\"\"b;\";") == [.statement("select 'it''s; so', \"a\"\"b;\"")])
    }

    @Test func nothingButSpacesAndCommentsIsNoStatement() {
        var input = ShellInput()
        #expect(input.add("-- hello").isEmpty)
        #expect(input.add(";;").isEmpty)
        #expect(input.add("   ").isEmpty)
        #expect(input.finish() == nil)
    }

    @Test func theLastStatementOfAFileNeedsNoSemicolon() {
        var input = ShellInput()
        #expect(input.add("select 1; select 2") == [.statement("select 1")])
        #expect(input.finish() == .statement("select 2"))
        #expect(input.finish() == nil)
    }

    @Test func commandsAreOneLineAndOnlyBetweenStatements() {
        var input = ShellInput()
        #expect(input.add("  \\org lab-a  lab-b") == [.command("org", ["lab-a", "lab-b"])])
        #expect(input.add("select 1").isEmpty)
        #expect(input.add("\\q").isEmpty)
        #expect(input.middle == .statement)
        input.clear()
        #expect(input.add("\\q") == [.command("q", [])])
    }

    @Test func completionOffersTablesBeforeWordsAndCommandsAtTheStart() {
        var completion = ShellCompletion()
        completion.names = ["audit_log", "action"]
        completion.organizations = ["lab-a", "lab-b", "all"]
        #expect(completion.candidates(for: "a", before: "select ").prefix(2) == ["audit_log", "action"])
        #expect(completion.candidates(for: "sel", before: "") == ["select"])
        #expect(completion.candidates(for: "SEL", before: "") == ["SELECT"])
        #expect(completion.candidates(for: "lab-", before: "\\org ") == ["lab-a", "lab-b"])
        #expect(completion.candidates(for: "\\con", before: "") == ["\\consistency"])
        #expect(completion.candidates(for: "m", before: "\\format ") == ["markdown"])
        #expect(completion.candidates(for: "", before: "select ").isEmpty)
    }

    @Test func namesInListingsAreQuoted() {
        #expect(ShellCommand.listing(of: "a'b").contains("lower('a''b')"))
        #expect(ShellCommand.help.contains("\\watch"))
    }
}
