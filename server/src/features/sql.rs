//! How much SQL of users may ask of the stack.
//!
//! Invariant: what passes here is parsed, planned and evaluated within the stack of a query thread; an overflow would end the
//! whole server. The parser itself refuses deep nesting. A chain (`1 + 1 + …`, `… UNION ALL …`) is not nested as text, but its tree
//! is as deep as the chain is long. Pure.

use datafusion::{
    logical_expr::LogicalPlan,
    sql::sqlparser::{
        dialect::GenericDialect,
        keywords::Keyword,
        tokenizer::{Token, Tokenizer},
    },
};

/// Most operators of a query, and of the expressions of on-demand features, which are planned on threads with less stack.
pub(super) const MAX_OPERATORS: usize = 1000;
pub(super) const MAX_EXPRESSION_OPERATORS: usize = 200;
/// Most steps from the result of a query to its tables.
const MAX_PLAN_DEPTH: usize = 1000;
/// Most SQL sources between a source and the files below it.
pub(super) const MAX_SOURCE_DEPTH: usize = 20;

/// Refuses a text that is one chain of too many operators.
pub(super) fn check_operators(sql: &str, most: usize) -> Result<(), String> {
    // What cannot even be cut into tokens is told by the parser.
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize()
        .unwrap_or_default();
    let count = tokens.iter().filter(|token| chains(token)).count();
    if count > most {
        return Err(format!(
            "has {count} operators (such as +, AND, UNION); at most {most} are possible"
        ));
    }
    Ok(())
}

/// Whether a tree may grow by one level with this token.
fn chains(token: &Token) -> bool {
    use Keyword as K;
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            K::AND
                | K::OR
                | K::XOR
                | K::NOT
                | K::IS
                | K::IN
                | K::LIKE
                | K::ILIKE
                | K::SIMILAR
                | K::RLIKE
                | K::REGEXP
                | K::BETWEEN
                | K::COLLATE
                | K::AT
                | K::DIV
                | K::UNION
                | K::EXCEPT
                | K::INTERSECT
                | K::MINUS
                | K::JOIN
        ),
        Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Comma
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

/// Refuses a plan that is too deep to be walked.
pub(super) fn check_depth(plan: &LogicalPlan) -> Result<(), String> {
    let mut waiting = vec![(plan, 1)];
    while let Some((plan, depth)) = waiting.pop() {
        if depth > MAX_PLAN_DEPTH {
            return Err(format!(
                "joins and subqueries rest on each other in more than {MAX_PLAN_DEPTH} steps"
            ));
        }
        waiting.extend(plan.inputs().into_iter().map(|input| (input, depth + 1)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_counted_and_lists_are_not() {
        let chain = |by: &str| vec!["x"; 1002].join(by);
        for by in [
            "+",
            " AND ",
            " or ",
            "||",
            " UNION ALL ",
            "::int + ",
            " IS NULL = ",
        ] {
            assert!(
                check_operators(&chain(by), MAX_OPERATORS).is_err(),
                "{by:?}"
            );
        }
        for by in [", ", ") (", " WHEN 1 THEN ", ".", "\n"] {
            assert!(check_operators(&chain(by), MAX_OPERATORS).is_ok(), "{by:?}");
        }
        let quoted = format!("SELECT '{}' AS \"{}\"", chain("+"), chain(" AND "));
        assert!(check_operators(&quoted, MAX_OPERATORS).is_ok());
        assert!(
            check_operators("'not closed", 0).is_ok(),
            "the parser tells"
        );
    }
}
